"""How numba compiles what is called a lot, and keeps it for other processes."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import types
from numba.core.caching import FunctionCache


def mangled(record: Any) -> tuple[str, tuple[int]]:
    """What a record type is called in the names of compiled functions: by what it holds.

    numba calls it by how many types the process had met before. Two processes then give the same name to
    functions for different records, and one that reads both from the cache runs one in place of the other.
    """
    digest = hashlib.blake2b(record.name.encode(), digest_size=7).digest()
    return type(record).__name__, (int.from_bytes(digest, "big"),)


setattr(types.Record, "mangling_args", property(mangled))  # noqa: B010 - its annotation knows no property


class SharedCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of a function, for several processes at once.

    numba names a new entry by counting those there are, writes that down, and then writes the entry: two
    processes that compile for different types at the same time choose the same name, and one of them, or
    whoever reads it later, runs code that was compiled for other types, which overwrites memory. A lock
    around both steps keeps them together; the kernel drops it with the process.
    """

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        with self.locked():
            return super()._load_overload(sig, target_context)

    def _save_overload(self, sig: Any, data: Any) -> None:
        self._impl.locator.ensure_cache_path()
        with self.locked():
            super()._save_overload(sig, data)

    @contextmanager
    def locked(self) -> Iterator[None]:
        folder = Path(self.cache_path)
        if not folder.is_dir():  # nothing has been compiled yet
            yield
            return
        with (folder / f"{self._impl.filename_base}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def compiled(function: Any) -> Any:
    made = numba.njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    made._cache = SharedCache(function)  # what `cache=True` sets, to a cache for one process
    return made


def inlined(function: Any) -> Any:
    return numba.njit(inline="always", nogil=True, boundscheck=False, error_model="numpy")(function)
