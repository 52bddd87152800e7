"""What writers and readers of a store call: the same promises for a folder and for a bucket.

For a path below the folder that stands for a bucket (an opened store's `root`) each also acts on the bucket;
for any other it is the disk alone, as it is for what lies in a folder not committed yet (`.tmp-…`).
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.disk import explained
from penstock.store import local
from penstock.store.lease import Lease, taken
from penstock.store.local import ASIDE, folder_aside
from penstock.store.mirror import Mirror

mirrors: dict[Path, Mirror] = {}
"""Those of this process, by their folder."""


def mirror_of(path: Path) -> Mirror | None:
    """What stands behind `path`; None where that is the disk alone."""
    if mirrors and not any(part.startswith(ASIDE) for part in path.parts):
        for root, mirror in mirrors.items():
            if path.is_relative_to(root):
                return mirror
    return None


# ---------------------------------------------------------------- committed folders


@contextmanager
def publish_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder to fill; it becomes `parent/name` when the block ends, all of it or
    nothing. FileExistsError when `parent/name` is there already: of any number of writers exactly
    one wins. StoreError when the disk is full, or the bucket does not answer. An error in the block leaves
    nothing behind."""
    with folder_aside(parent) as aside:
        with explained(parent / name):
            yield aside
        commit_folder(aside, parent / name)


def commit_folder(aside: Path, target: Path) -> None:
    """Gives `aside` (folder_aside) the name `target`, safe from then on; FileExistsError when that exists."""
    mirror = mirror_of(target)
    if mirror is None:
        local.commit_folder(aside, target)
    else:
        mirror.commit(aside, target)


def discard_folder(path: Path) -> None:
    """Takes `path` away at once, then deletes what was in it: a reader never sees half of it."""
    mirror = mirror_of(path)
    if mirror is None:
        local.discard_folder(path)
    else:
        mirror.discard(path)


def sweep(parent: Path) -> list[Path]:
    """Deletes what dead writers left unfinished in `parent`, and says what it was."""
    mirror = mirror_of(parent)
    return local.sweep(parent) + (mirror.sweep(parent) if mirror is not None else [])


def listed(parent: Path) -> list[str]:
    """The names of the folders that are committed in `parent`, sorted; none where there is no such folder."""
    mirror = mirror_of(parent)
    return mirror.names(parent) if mirror is not None else _folders(parent)


def subfolders(parent: Path) -> list[str]:
    """The names of the plain folders in `parent`, sorted."""
    mirror = mirror_of(parent)
    return sorted(mirror.subfolders(parent)) if mirror is not None else _folders(parent)


def _folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    return sorted(path.name for path in parent.iterdir() if path.name[0] != "." and path.is_dir())


def fetched(folder: Path) -> Path:
    """A committed folder, whole on this disk, every hash checked when it was brought here; `folder` itself.
    FileNotFoundError where it is not committed in the bucket."""
    mirror = mirror_of(folder)
    return mirror.fetch(folder) if mirror is not None else folder


def piece(folder: Path, name: str) -> bytes:
    """One file of a committed folder, without bringing the others here; FileNotFoundError."""
    mirror = mirror_of(folder)
    return mirror.piece(folder, name) if mirror is not None else (folder / name).read_bytes()


# ---------------------------------------------------------------- small files that change


def write_atomic(path: Path, data: bytes, mode: int | None = None) -> None:
    """`path` holds `data`, safe from now on, or what it held before; `mode`: who may read it, where that is
    not left to the umask. StoreError when the disk is full, or the bucket does not answer."""
    if (mirror := mirror_of(path)) is not None:
        mirror.put(path, data)
    local.write_atomic(path, data, mode)


def current(path: Path) -> bytes:
    """The newest content of a file that `write_atomic` or `push` wrote, from whichever machine;
    FileNotFoundError."""
    mirror = mirror_of(path)
    return mirror.read(path) if mirror is not None else path.read_bytes()


def discard_file(path: Path) -> None:
    """Harmless where there is none."""
    if (mirror := mirror_of(path)) is not None:
        mirror.remove(path)
    path.unlink(missing_ok=True)


def gathered(folder: Path) -> Path:
    """A plain folder with the newest of every file right in it on this disk; `folder` itself."""
    if (mirror := mirror_of(folder)) is not None:
        mirror.gather(folder)
    return folder


def clear_folder(folder: Path) -> None:
    """Deletes a plain folder and all that is in it; harmless where there is none."""
    if (mirror := mirror_of(folder)) is not None:
        mirror.clear(folder)
    shutil.rmtree(folder, ignore_errors=True)


def arrow_place(folder: Path) -> tuple[str, Any]:
    """(path, pyarrow's file system) of a folder in a bucket, for libraries that write there themselves."""
    mirror = _bucket_of(folder)
    return mirror.bucket.arrow_place(mirror.key(folder))


# ---------------------------------------------------------------- files that grow


def push(path: Path) -> None:
    """What was appended to the file is safe from now on."""
    if (mirror := mirror_of(path)) is not None:
        mirror.push(path)


def pull(path: Path) -> None:
    """Brings the file as it was last pushed, from whichever machine; it is absent where it never was."""
    if (mirror := mirror_of(path)) is not None:
        mirror.pull(path)


def in_bucket(path: Path) -> bool:
    """Whether a log at `path` is `append_object`s rather than a file."""
    return mirror_of(path) is not None


def append_object(path: Path, record: bytes) -> int:
    """Adds a record to the log at `path` in a bucket, safe when this returns; its number, from 0. Of several
    that append at the same moment each gets a number of its own."""
    return _bucket_of(path).append(path, record)


def read_objects(path: Path, start: int = 0) -> list[bytes]:
    """The records of the log at `path` in a bucket, from number `start` on, in the order of their numbers."""
    return list(_bucket_of(path).records(path, start))


def newest_objects(path: Path, most: int) -> list[bytes]:
    """At most so many records of the log at `path` in a bucket, the newest first."""
    return list(itertools.islice(_bucket_of(path).last_records(path), most))


def _bucket_of(path: Path) -> Mirror:
    mirror = mirror_of(path)
    if mirror is None:
        raise ValueError(f"{path} is not in a bucket")
    return mirror


# ---------------------------------------------------------------- locks


@contextmanager
def lock(path: Path, blocking: bool = True) -> Iterator[None]:
    """Holds the lock file `path`; it is free when the process ends, however that ends (in a bucket, for
    other machines: lease.TTL_S later). Without `blocking` a lock that is held raises Busy, with the holder's
    pid."""
    with local.lock(path, blocking):
        mirror = mirror_of(path)
        if mirror is None:
            yield
            return
        lease = Lease(mirror.bucket, mirror.key(path), path)
        lease.acquire(blocking)
        try:
            yield
        finally:
            lease.release()


def lock_held(path: Path) -> bool:
    """Whether a process seems to hold the lock. For people: only `lock` decides."""
    mirror = mirror_of(path)
    if mirror is not None:
        return taken(mirror.bucket, mirror.key(path))
    try:
        os.kill(int(path.read_text()), 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
