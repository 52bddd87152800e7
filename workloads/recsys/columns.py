"""Files of ratings to columns: CSV, TSV, MovieLens `::` and tab files, Parquet. No loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from penstock.errors import DataError, nearest
from workloads.recsys.config import Data

NAMES = {
    "user": ("user_id", "userId", "user"),
    "item": ("item_id", "video_id", "movie_id", "movieId", "item"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
"""What the columns are usually called."""
BARE = ("user", "item", "rating", "timestamp")
"""The columns of a file without a header (MovieLens `ratings.dat`, `u.data`)."""


@dataclass(frozen=True)
class Columns:
    """The usable rows of a file, and what is wrong with the others: (line, why), 1 = the first line.

    `user`, `item`: str [N]; `rating`: float32 [N] or None; `time`: int64 [N], Unix seconds, or None.
    """

    user: pa.Array
    item: pa.Array
    rating: NDArray[np.float32] | None
    time: NDArray[np.int64] | None
    bad: list[tuple[int, str]] = field(default_factory=list)


def read_columns(file: Path, config: Data) -> Columns:
    """DataError when the file cannot be read or lacks a column."""
    try:
        table, first, torn = _parquet(file) if file.suffix == ".parquet" else _text(file)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0][:120]
        raise DataError(f"{file.name}: {why}; is it a table of ratings?") from None
    names = {role: _find(file, table.column_names, role, getattr(config, role)) for role in NAMES}
    user, item = (_ids(table.column(str(names[role]))) for role in ("user", "item"))
    faults: dict[int, str] = {}
    for role, values in (("user", user), ("item", item)):
        for row in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)):
            faults.setdefault(int(row), f"no {role}")
    rating = _numbers(table, names["rating"], "rating", faults)
    time = _numbers(table, names["timestamp"], "timestamp", faults)
    keep = np.ones(len(user), bool)
    keep[list(faults)] = False
    mask = pa.array(keep)
    return Columns(
        user.filter(mask),
        item.filter(mask),
        None if rating is None else rating[keep].astype(np.float32),
        None if time is None else time[keep].astype(np.int64),
        sorted([(row + first, why) for row, why in faults.items()] + torn),
    )


def _find(file: Path, present: Sequence[str], role: str, asked: str) -> str | None:
    if asked:
        if asked not in present:
            raise DataError(f"{file.name}: no column {asked!r} (data.{role}){nearest(asked, present)}")
        return asked
    found = next((name for name in NAMES[role] if name in present), None)
    if found is None and role in ("user", "item"):
        raise DataError(
            f"{file.name}: no column of {role}s ({', '.join(NAMES[role])}) among {', '.join(present)[:120]}; "
            f"name it with data.{role}=COLUMN"
        )
    return found


def _parquet(file: Path) -> tuple[pa.Table, int, list[tuple[int, str]]]:
    return pq.read_table(file), 1, []


def _text(file: Path) -> tuple[pa.Table, int, list[tuple[int, str]]]:
    """The table, the line of its first row, and lines with too few or too many values."""
    with file.open("rb") as opened:
        head = opened.readline().decode("utf-8-sig").rstrip("\r\n")
    delimiter = next((mark for mark in ("::", "\t", ";") if mark in head), ",")
    bare = all(_is_number(cell) for cell in head.split(delimiter))
    names = list(BARE[: len(head.split(delimiter))]) if bare else None
    torn: list[tuple[int, str]] = []

    def skip(row: pc.InvalidRow) -> str:
        torn.append((row.number or 0, f"{row.actual_columns} values in a row of {row.expected_columns}"))
        return "skip"

    if delimiter == "::":
        # Arrow knows delimiters of one character only
        source = pa.BufferReader(file.read_bytes().replace(b"::", b"\t"))
        delimiter = "\t"
    else:
        source = pa.OSFile(str(file))

    def read(threads: bool) -> pa.Table:
        return pc.read_csv(
            source,
            pc.ReadOptions(column_names=names, use_threads=threads, block_size=16 << 20),
            pc.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
            pc.ConvertOptions(strings_can_be_null=True, null_values=["", "NaN", "nan", "NULL", "null", "NA"]),
        )

    table = read(threads=True)
    if torn:
        # only one thread knows the numbers of lines
        torn.clear()
        source.seek(0)
        table = read(threads=False)
    return table, 1 if bare else 2, torn


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ids(column: pa.ChunkedArray) -> pa.Array:
    """Ids of any type as text."""
    return column.cast(pa.large_string()).combine_chunks()


def _numbers(
    table: pa.Table, name: str | None, role: str, faults: dict[int, str]
) -> NDArray[np.float64] | None:
    """A column as float64 [N]; what is no finite number goes to `faults` by row."""
    if name is None:
        return None
    column = table.column(name)
    series = column.to_pandas()
    numbers: NDArray[np.float64] = pd.to_numeric(series, errors="coerce").to_numpy(np.float64)
    for row in np.flatnonzero(~np.isfinite(numbers)):
        value = series.iloc[row]
        missing = value is None or value != value
        faults.setdefault(
            int(row), f"no {role}" if missing else f"{role} {str(value)[:40]!r} is not a number"
        )
    return numbers
