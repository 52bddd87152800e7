"""Arrow shards: rows written once, read as views of a memory-mapped file.

A shard is one Arrow IPC file with one record batch, so a row's number is its place in the buffer.

| a row's value | stored as | read as |
|---|---|---|
| array, one shape in the whole shard | FixedShapeTensor | read-only view |
| array, first dimension varies | LargeList, flat; other dimensions in the metadata | read-only view |
| bytes | large_binary | bytes |
| str | large_string | str |
| int, float | int64, float64 | int, float |
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from penstock.disk import explained
from penstock.errors import DataError
from penstock.store import ASIDE, sha256_file
from penstock.workload import Row

Read = Callable[[int], Any]


class Written(TypedDict):
    """What was written: rows, bytes of the file, its SHA-256."""

    rows: int
    bytes: int
    sha256: str


# ---------------------------------------------------------------- write


def write_shard(path: Path, rows: Sequence[Row]) -> Written:
    """Writes `rows` (at least one, all with the same columns) as one shard at `path`. TypeError names
    a column that cannot be stored; StoreError when the disk is full."""
    columns = [(name, *_column(name, [row[name] for row in rows])) for name in _names(rows)]
    schema = pa.schema([pa.field(name, array.type, metadata=notes) for name, array, notes in columns])
    batch = pa.record_batch([array for _, array, _ in columns], schema=schema)
    # a worker that is killed is tried again while it may still be writing: each writes its own file
    aside = path.with_name(f"{ASIDE}{os.getpid()}-{path.name}")
    with explained(path):
        try:
            with aside.open("wb") as file:
                with ipc.new_file(file, schema) as writer:
                    writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            written = Written(rows=len(rows), bytes=aside.stat().st_size, sha256=sha256_file(aside))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    return written


def _names(rows: Sequence[Row]) -> list[str]:
    names = list(rows[0])
    for row in rows:
        if row.keys() != rows[0].keys():
            raise TypeError(f"rows have other columns: {', '.join(row)}; the first has {', '.join(names)}")
    return names


def _column(name: str, values: list[Any]) -> tuple[pa.Array, dict[str, str]]:
    first = values[0]
    if isinstance(first, np.ndarray):
        return _array_column(name, values)
    for kinds, arrow in (
        ((bytes,), pa.large_binary()),
        ((str,), pa.large_string()),
        ((int, np.integer), pa.int64()),
        ((int, float, np.integer, np.floating), pa.float64()),
    ):
        if all(isinstance(value, kinds) for value in values):
            return pa.array(values, arrow), {}
    kinds_found = ", ".join(sorted({type(value).__name__ for value in values}))
    raise TypeError(f"column {name!r} holds {kinds_found}; use arrays, bytes, str, int or float")


def _array_column(name: str, values: list[Any]) -> tuple[pa.Array, dict[str, str]]:
    first: NDArray[Any] = values[0]
    for value in values:
        if not isinstance(value, np.ndarray) or value.dtype != first.dtype or value.ndim != first.ndim:
            raise TypeError(
                f"column {name!r} holds {_shape(first)} and {_shape(value)}; use one dtype and rank"
            )
        if value.shape[1:] != first.shape[1:]:
            raise TypeError(
                f"column {name!r} holds {_shape(first)} and {_shape(value)}; only the first may vary"
            )
    if first.ndim == 0 or 0 in first.shape[1:] or first.dtype.kind not in "biuf":
        raise TypeError(
            f"column {name!r} holds {_shape(first)}; use arrays of numbers with at least one dimension"
        )
    dtype = first.dtype.newbyteorder("=")
    notes = {"dtype": dtype.str[1:]}
    # Arrow packs booleans into bits; a view needs bytes
    stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    if all(value.shape == first.shape for value in values) and first.size:
        block = np.ascontiguousarray(np.stack(values), dtype).view(stored)
        return pa.FixedShapeTensorArray.from_numpy_ndarray(block), notes
    flat = np.concatenate([np.ascontiguousarray(value, dtype).reshape(-1) for value in values]).view(stored)
    offsets = np.cumsum([0] + [value.size for value in values], dtype=np.int64)
    notes["trailing"] = json.dumps(list(first.shape[1:]))
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)), notes


def _shape(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


# ---------------------------------------------------------------- read


class Shards:
    """The rows of some shards, one after the other, memory-mapped: opened files are views, not copies."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [Path(path) for path in paths]
        self._batches = [_open(path) for path in self.paths]
        ends = np.cumsum([0] + [batch.num_rows for batch in self._batches])
        self._starts: NDArray[np.int64] = ends[:-1].astype(np.int64)
        self._rows = int(ends[-1])
        self._readers: list[Mapping[str, Read] | None] = [None] * len(self.paths)

    def __len__(self) -> int:
        return self._rows

    @property
    def columns(self) -> list[str]:
        """The names of a row's values; none where there are no rows."""
        return list(self._batches[0].schema.names) if self._batches else []

    def row(self, index: int) -> dict[str, Any]:
        """Row `index`, 0 .. len - 1. Arrays are read-only views of the file."""
        shard, place = self._place(index)
        return {name: read(place) for name, read in self._reader(shard).items()}

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """The rows at `indices`, in that order."""
        return [self.row(int(index)) for index in indices]

    def column(self, name: str) -> list[Any]:
        """One value of every row, without touching the others. KeyError when there is no such column."""
        return [
            read(place)
            for shard, batch in enumerate(self._batches)
            for read in (self._reader(shard)[name],)
            for place in range(batch.num_rows)
        ]

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self._rows:
            raise IndexError(f"row {index} of {self._rows}")
        shard = int(np.searchsorted(self._starts, index, "right")) - 1
        return shard, index - int(self._starts[shard])

    def _reader(self, shard: int) -> Mapping[str, Read]:
        reader = self._readers[shard]
        if reader is None:
            batch = self._batches[shard]
            reader = {
                field.name: _read(batch.column(i), field.metadata or {})
                for i, field in enumerate(batch.schema)
            }
            self._readers[shard] = reader
        return reader


def _open(path: Path) -> Any:
    try:
        file = ipc.open_file(pa.memory_map(str(path)))
        if file.num_record_batches != 1:
            raise pa.ArrowInvalid(f"{file.num_record_batches} record batches")
        return file.get_batch(0)
    except (OSError, pa.ArrowException) as error:
        why = str(error).splitlines()[0][:80]
        raise DataError(f"shard {path} is missing or damaged ({why}); prepare the data again") from None


def _read(column: Any, notes: Mapping[bytes, bytes]) -> Read:
    if pa.types.is_large_binary(column.type) or pa.types.is_large_string(column.type):
        return lambda place: column[place].as_py()
    if pa.types.is_int64(column.type) or pa.types.is_float64(column.type):
        numbers = column.to_numpy()
        return lambda place: numbers[place].item()
    dtype = np.dtype(notes[b"dtype"].decode())
    if isinstance(column, pa.FixedShapeTensorArray):
        block = column.to_numpy_ndarray().view(dtype)
        return lambda place: block[place]
    trailing = tuple(json.loads(notes[b"trailing"]))
    offsets, values = column.offsets.to_numpy(), column.values.to_numpy().view(dtype)
    return lambda place: values[offsets[place] : offsets[place + 1]].reshape(-1, *trailing)
