"""What a disk can do to a writer, said in one line: full, read-only, forbidden, not a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import StoreError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns "disk full", "read-only" and the like, while writing `path`, into a StoreError of one line."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if why := explain(error, path):
            raise StoreError(why) from error
        raise


def explain(error: BaseException, path: Path) -> str | None:
    """One line on an error that is the disk's fault; None for any other."""
    code = error.errno if isinstance(error, OSError) else None
    text = str(error)
    setting = "PENSTOCK_CACHE" if path.is_relative_to(cache()) else "PENSTOCK_STORE"
    # pyarrow and safetensors say it in words
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in text:
        return f"disk full while writing {path}; free space in {_existing(path)} or set {setting}"
    if code == errno.EROFS or "Read-only file system" in text:
        return f"read-only file system at {path}; set {setting} to a folder you may write to"
    if not isinstance(error, OSError) or not _concerns(error, path):
        return None
    if code in (errno.EACCES, errno.EPERM):
        return f"no permission to write {path}; set {setting} to a folder you may write to"
    if code == errno.ENOTDIR or (code == errno.EEXIST and not path.is_dir()):
        return f"{path} is not a folder, or lies in a file; set {setting} to a folder"
    if code == errno.ENOENT and not path.parent.is_dir():
        return f"no folder can be made at {path.parent}, or it is gone; set {setting} to another"
    return None


def cache() -> Path:
    """Where parts of buckets lie on this machine: PENSTOCK_CACHE, else ~/.cache/penstock."""
    return Path(os.environ.get("PENSTOCK_CACHE") or "~/.cache/penstock").expanduser().absolute()


def _concerns(error: OSError, path: Path) -> bool:
    # a file of somebody else's that cannot be read is not the store's fault
    if not isinstance(error.filename, str):
        return False
    at = Path(error.filename)
    return at.is_relative_to(path.parent) or path.is_relative_to(at)


def _existing(path: Path) -> Path:
    return next((place for place in path.parents if place.is_dir() and ".tmp-" not in str(place)), path)
