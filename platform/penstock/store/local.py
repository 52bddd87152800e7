"""Files and folders on a disk, committed or absent.

They are written aside under `.tmp-<pid>-<random>`, flushed to the disk and renamed into place; a reader never
sees half of one, whenever the writer dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock.disk import explained
from penstock.errors import StoreError
from penstock.store import process

ASIDE = ".tmp-"
"""What names of unfinished files and folders begin with; readers skip them."""


class Busy(StoreError):
    """A lock that another process holds. `pid`: that process, 0 where it is not known."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


# ---------------------------------------------------------------- write


def write_atomic(path: Path, data: bytes, mode: int | None = None) -> None:
    """`path` holds `data`, on the disk, or what it held before; `mode`: who may read it, where that is not
    left to the umask. StoreError when the disk is full."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path.parent)
        try:
            with aside.open("xb") as file:
                _hold(file.fileno())
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def publish_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder to fill; it becomes `parent/name` when the block ends, all of it or
    nothing. FileExistsError when `parent/name` is there already: of any number of writers exactly
    one wins. StoreError when the disk is full. An error in the block leaves nothing behind."""
    with folder_aside(parent) as aside:
        with explained(parent / name):
            yield aside
        commit_folder(aside, parent / name)


@contextmanager
def folder_aside(parent: Path) -> Iterator[Path]:
    """Yields an empty folder in `parent` that no reader looks at; gone when the block ends, unless
    `commit_folder` gave it its name. For what is named after its content; else `publish_folder`."""
    aside = _aside(parent)
    with explained(aside):
        parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        held = os.open(aside, os.O_RDONLY)
    try:
        _hold(held)
        yield aside
    finally:
        os.close(held)
        shutil.rmtree(aside, ignore_errors=True)


def commit_folder(aside: Path, target: Path) -> None:
    """Flushes `aside` to the disk and renames it to `target`; FileExistsError when that exists."""
    with explained(target):
        _sync_tree(aside)
        _rename_folder(aside, target)
        _sync_folder(target.parent)


def discard_folder(path: Path) -> None:
    """Takes `path` away at once, then deletes what was in it: a reader never sees half of it."""
    aside = _aside(path.parent)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    _sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)  # sweep() takes what is left


def sweep(parent: Path) -> list[Path]:
    """Deletes what dead writers left unfinished in `parent`, and says what it was."""
    swept = []
    for path in parent.glob(f"{ASIDE}*") if parent.is_dir() else ():
        if _abandoned(path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            swept.append(path)
    return swept


def _aside(parent: Path) -> Path:
    return parent / f"{ASIDE}{os.getpid()}-{uuid.uuid4().hex[:12]}"


def _hold(descriptor: int) -> None:
    # sweep() spares what is locked: a pid alone says nothing about a writer on another machine.
    # Some network file systems know no locks; the pid decides there
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _abandoned(path: Path) -> bool:
    pid = path.name.removeprefix(ASIDE).partition("-")[0]
    if pid.isdigit() and process.alive(int(pid)):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False  # its writer has just finished or removed it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _rename_folder(aside: Path, target: Path) -> None:
    # rename() replaces an empty folder and refuses one with files in it: what is published has files
    if not any(aside.iterdir()):
        raise ValueError(f"nothing was written into {target}")
    try:
        aside.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, "exists already", str(target)) from None
        raise


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            _sync_tree(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- check, lock


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(path: Path, blocking: bool = True) -> Iterator[None]:
    """Holds the lock file `path`; the kernel drops it with the process, however it ends. Without
    `blocking` a lock that is held raises Busy, with the holder's pid."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            pid = int(holder) if holder.isdigit() else 0
            raise Busy(f"{path} is held by process {pid or 'unknown'}; wait for it or stop it", pid) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # which drops the lock, unless a forked child still has it open
