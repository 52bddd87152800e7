"""Files of ratings to columns: CSV, TSV, MovieLens `::` and tab files, Parquet. No loop over rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from penstock.errors import DataError, nearest
from workloads.recsys.config import Data
from workloads.recsys.messages import LATEST, UTMOST
from workloads.recsys.values import ids, numbers

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
    """The usable rows of a file, and where and why the others cannot be used.

    `user`, `item`: dictionaries of str [N]; `rating`: float32 [N] or None; `time`: int64 [N], Unix seconds,
    or None.
    """

    user: pa.DictionaryArray
    item: pa.DictionaryArray
    rating: NDArray[np.float32] | None
    time: NDArray[np.int64] | None
    bad: list[tuple[str, str]] = field(default_factory=list)


class Table(NamedTuple):
    """A file as it was read; `names`: the column of each role; `torn`: lines with too few or too many
    values; `bare`: there is no header."""

    columns: pa.Table
    names: Mapping[str, str | None]
    torn: list[tuple[int, str]]
    bare: bool

    def column(self, role: str) -> pa.ChunkedArray | None:
        name = self.names[role]
        return None if name is None else self.columns.column(name)


def read_columns(file: Path, config: Data) -> Columns:
    """DataError when the file cannot be read or lacks a column."""
    parquet = file.suffix == ".parquet"
    faults: dict[int, str] = {}
    try:
        table = _parquet(file, config) if parquet else _text(file, config)
        user, item = (ids(table.column(role), role, faults) for role in ("user", "item"))
        rating = numbers(table.column("rating"), "rating", (-UTMOST, UTMOST), faults)
        time = numbers(table.column("timestamp"), "timestamp", (0, LATEST), faults)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0][:120]
        raise DataError(f"{file.name}: {why}; is it a table of ratings?") from None
    keep = np.ones(len(user), bool)
    keep[list(faults)] = False
    mask = pa.array(keep)
    line = _lines(file, table) if faults and not parquet else range(1, len(user) + 1)
    bad = sorted([(line[row], why) for row, why in faults.items()] + table.torn)
    return Columns(
        user.filter(mask),
        item.filter(mask),
        None if rating is None else rating[keep].astype(np.float32),
        None if time is None else time[keep].astype(np.int64),
        [(f"{file.name} {'row' if parquet else 'line'} {place}", why) for place, why in bad],
    )


# ---------------------------------------------------------------- files


def _find(file: Path, present: Sequence[str], config: Data) -> dict[str, str | None]:
    """The column of each role; None where there is none and none is needed."""
    names: dict[str, str | None] = {}
    for role, usual in NAMES.items():
        asked = getattr(config, role)
        if asked and asked not in present:
            raise DataError(f"{file.name}: no column {asked!r} (data.{role}){nearest(asked, present)}")
        found = asked or next((name for name in usual if name in present), None)
        if found is None and role in ("user", "item"):
            raise DataError(
                f"{file.name}: no column of {role}s ({', '.join(usual)}) among {', '.join(present)[:120]}; "
                f"name it with data.{role}=COLUMN"
            )
        if found and list(present).count(found) > 1:
            raise DataError(f"{file.name}: two columns are called {found!r}; rename one")
        names[role] = found
    return names


def _parquet(file: Path, config: Data) -> Table:
    names = _find(file, pq.read_schema(file).names, config)
    return Table(pq.ParquetFile(file).read(_wanted(names)), names, [], True)


def _wanted(names: Mapping[str, str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names.values() if name))


def _text(file: Path, config: Data) -> Table:
    head = next((line for _, line in _filled(file)), b"").decode("utf-8-sig").rstrip("\r\n")
    if not head:
        raise DataError(f"{file.name}: the file is empty; a table of ratings is needed")
    mark = next((mark for mark in ("::", "\t", ";") if mark in head), ",")
    # Arrow knows delimiters of one character only
    raw, delimiter = (file.read_bytes().replace(b"::", b"\t"), "\t") if mark == "::" else (None, mark)
    cells = next(csv.reader([head.replace(mark, delimiter)], delimiter=delimiter))
    bare = all(map(_is_number, cells))
    present = [*BARE, *map(str, range(5, len(cells) + 1))][: len(cells)] if bare else cells
    names = _find(file, present, config)
    torn: list[pc.InvalidRow] = []

    def skip(row: pc.InvalidRow) -> str:
        torn.append(row)
        return "skip"

    def read(threads: bool) -> pa.Table:
        return pc.read_csv(
            pa.OSFile(str(file)) if raw is None else pa.BufferReader(raw),
            pc.ReadOptions(column_names=present if bare else None, use_threads=threads, block_size=16 << 20),
            pc.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
            # ids as they stand in the file: "007" is not 7
            pc.ConvertOptions(
                column_types={str(names[role]): pa.binary() for role in ("user", "item")},
                include_columns=_wanted(names),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )

    columns = read(threads=True)
    if not torn:
        return Table(columns, names, [], bare)
    torn.clear()
    columns = read(threads=False)  # only one thread knows the numbers of rows
    line = [number for number, _ in _filled(file)]
    for row in torn:
        if "\n" in row.text.rstrip("\r\n"):
            where = f"{file.name} line {line[row.number - 1]}"
            raise DataError(f"{where}: a quotation mark is opened and not closed; repair it")
    why = [f"{row.actual_columns} values in a row of {row.expected_columns}" for row in torn]
    return Table(columns, names, [(line[r.number - 1], w) for r, w in zip(torn, why, strict=True)], bare)


def _filled(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, 1 = the first, but for empty ones, which Arrow passes over."""
    with file.open("rb") as opened:
        yield from ((number, line) for number, line in enumerate(opened, 1) if line.strip(b"\r\n"))


def _lines(file: Path, table: Table) -> list[int]:
    """The line of each row."""
    torn = {line for line, _ in table.torn}
    numbers = [number for number, _ in _filled(file)][0 if table.bare else 1 :]
    return [number for number in numbers if number not in torn]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
