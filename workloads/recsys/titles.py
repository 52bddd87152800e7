"""What the items are called and what kind they are: `movies.csv`, MovieLens `movies.dat`, `items.csv`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from penstock.errors import DataError
from penstock.workload import Schema
from workloads.recsys.columns import NAMES

FILES = ("movies.csv", "items.csv", "videos.csv", "movies.dat")
YEAR = r"\((\d{4})\)\s*$"


def find(folder: Path) -> Path | None:
    """The file of titles in a folder of ratings, if there is one."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_titles(file: Path) -> Mapping[str, tuple[str, list[str]]]:
    """Raw id -> (title, genres); genres are parted by "|"."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = file.read_text(encoding="latin-1")  # as MovieLens 1M is
    if file.suffix == ".dat":
        text = "movieId\ttitle\tgenres\n" + text.replace("\t", " ").replace("::", "\t")
    separator = "\t" if file.suffix == ".dat" else ","
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            quoting=csv.QUOTE_NONE if file.suffix == ".dat" else csv.QUOTE_MINIMAL,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{file.name}: {str(error).strip()[:120]}") from None
    ids = next((name for name in NAMES["item"] if name in table.columns), None)
    if ids is None or "title" not in table.columns:
        raise DataError(f"{file.name}: columns {', '.join(NAMES['item'])} and title are needed")
    blank = [""] * len(table)
    genres = table["genres"] if "genres" in table.columns else blank
    return {
        name: (title, [g for g in kinds.split("|") if g and g[0] != "("])
        for name, title, kinds in zip(table[ids], table["title"], genres, strict=True)
    }


def items_asset(ids: Sequence[str], known: Mapping[str, tuple[str, list[str]]]) -> bytes:
    """The items of a data set by number, as an Arrow file: id, title ("" = unknown), genres."""
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "title": pa.array([known.get(i, ("", []))[0] for i in ids], pa.string()),
            "genres": pa.array([known.get(i, ("", []))[1] for i in ids], pa.list_(pa.string())),
        }
    )
    return to_arrow(table)


def ids(schema: Schema) -> list[str]:
    """The raw ids of a data set's items, index = number."""
    found: list[str] = pa.ipc.open_file(schema.assets["items.arrow"]).read_all()["id"].to_pylist()
    return found


def to_arrow(table: pa.Table) -> bytes:
    """A table as the bytes of an Arrow file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def years(titles: Sequence[str]) -> NDArray[np.float32]:
    """The year at the end of each title, "Tampopo (1985)", else the mean of all, float32 [I]."""
    found = [re.search(YEAR, title) for title in titles]
    known = [float(match[1]) for match in found if match]
    usual = float(np.mean(known)) if known else 2000.0
    return np.array([float(match[1]) if match else usual for match in found], np.float32)
