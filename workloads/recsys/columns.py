"""Files of ratings to columns: CSV, TSV, MovieLens `::` and tab files, Parquet. No loop over rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from penstock.errors import DataError, nearest
from workloads.recsys.config import Data
from workloads.recsys.messages import LATEST, LONGEST, UTMOST

NAMES = {
    "user": ("user_id", "userId", "user"),
    "item": ("item_id", "video_id", "movie_id", "movieId", "item"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
"""What the columns are usually called."""
BARE = ("user", "item", "rating", "timestamp")
"""The columns of a file without a header (MovieLens `ratings.dat`, `u.data`)."""
IDS = pa.dictionary(pa.int32(), pa.binary())
"""Ids as they stand in the file: "007" is not 7."""


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


def read_columns(file: Path, config: Data) -> Columns:
    """DataError when the file cannot be read or lacks a column."""
    parquet = file.suffix == ".parquet"
    faults: dict[int, str] = {}
    try:
        table = _parquet(file, config) if parquet else _text(file, config)
        user, item = (_ids(table, role, faults) for role in ("user", "item"))
        rating = _numbers(file, table, "rating", (-UTMOST, UTMOST), faults)
        time = _numbers(file, table, "timestamp", (0, LATEST), faults)
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
            pc.ConvertOptions(
                column_types={str(names[role]): IDS for role in ("user", "item")},
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


# ---------------------------------------------------------------- columns


def _ids(table: Table, role: str, faults: dict[int, str]) -> pa.DictionaryArray:
    """Ids of any type as text; what cannot be one goes to `faults` by row."""
    column = table.columns.column(str(table.names[role])).combine_chunks()
    if column.type != IDS:
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        texts = pa.types.is_binary(plain.type) or pa.types.is_large_binary(plain.type)
        column = (plain if texts else plain.cast(pa.large_string())).dictionary_encode()
    why: dict[int, str] = {}
    known: list[str] = []
    for number, raw in enumerate(column.dictionary.cast(pa.large_binary()).to_pylist()):
        text = (raw or b"").decode("utf-8", "replace")
        if not text:
            why[number] = f"no {role}"
        elif len(text) > LONGEST:
            why[number] = f"{role} {text[:20]!r}… has {len(text)} characters; {LONGEST} are possible"
        elif "�" in text and raw != text.encode():
            why[number] = f"{role} {text[:40]!r} is not UTF-8"
        elif not text.isprintable() and any(mark in text for mark in "\r\n\0"):
            why[number] = f"{role} {text[:40]!r} holds a line break or a zero byte"
        known.append(f"\0{number}" if number in why else text)
    place = column.indices
    for row in np.flatnonzero(place.is_null().to_numpy(zero_copy_only=False)):
        faults.setdefault(int(row), f"no {role}")
    if why:
        wrong = np.isin(place.fill_null(-1).to_numpy(), list(why))
        for row in np.flatnonzero(wrong):
            faults.setdefault(int(row), why[place[row].as_py()])
    return pa.DictionaryArray.from_arrays(place.cast(pa.int32()), pa.array(known, pa.large_string()))


def _numbers(
    file: Path, table: Table, role: str, limits: tuple[float, float], faults: dict[int, str]
) -> NDArray[np.float64] | None:
    """A column as float64 [N]; what is no number within the limits goes to `faults` by row."""
    name = table.names[role]
    if name is None:
        return None
    column = table.columns.column(name)
    if pa.types.is_temporal(column.type):
        if role == "rating" or pa.types.is_time(column.type) or pa.types.is_duration(column.type):
            raise DataError(f"{file.name}: column {name!r} holds times, not {role}s; see data.{role}")
        zone = getattr(column.type, "tz", None)
        column = column.cast(pa.timestamp("s", zone), safe=False).cast(pa.int64())
    series = column.to_pandas()
    numbers: NDArray[np.float64] = pd.to_numeric(series, errors="coerce").to_numpy(np.float64)
    low, high = limits
    for row in np.flatnonzero(~((numbers >= low) & (numbers <= high))):
        value = series.iloc[row]
        shown = str(value)[:40]
        if value is None or value != value:
            why = f"no {role}"
        elif numbers[row] != numbers[row]:
            why = f"{role} {shown!r} is not a number"
        elif role == "timestamp":
            why = f"timestamp {shown} is not in Unix seconds"
        else:
            why = f"{role} {shown} is not within ±{UTMOST:,.0f}"
        faults.setdefault(int(row), why)
    return numbers
