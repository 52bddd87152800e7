"""Ratings files to rows. A row is a user: all that one rated stands together.

`csv:PATH` and `parquet:PATH` read a file, or a folder with `train` and `test` files, or with `ratings` (also
MovieLens `ratings.dat` and `u.data`). Titles and genres come from `movies.csv` and its like beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.data.source import licence
from penstock.errors import DataError
from penstock.workload import Fault, Item, Row, Scan, Schema
from workloads.recsys import titles
from workloads.recsys.columns import read_columns
from workloads.recsys.config import Data
from workloads.recsys.ratings import KNOWN, TEST, TRAIN, VALIDATION, Ratings, join

PARTS: tuple[tuple[int, Literal["train", "validation", "test"]], ...] = (
    (TRAIN, "train"),
    (VALIDATION, "validation"),
    (TEST, "test"),
)
Bad = list[tuple[str, str, bool]]
"""Where a row stands that cannot be used, why, and whether its file is the one of test ratings."""


class Tables:
    """The formats `csv` and `parquet`."""

    names: tuple[tuple[str, ...], ...] = ()

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        files = self.files(root)
        ratings, bad = load(files, stamps(files), config)
        folder = root if root.is_dir() else root.parent
        named = titles.find(folder)
        known = titles.read_titles(named) if named else {}
        trained = np.bincount(ratings.user[ratings.part == TRAIN], minlength=len(ratings.users)) > 0
        # a user's number is the place among those that train: the rows' own order
        number = np.where(trained, np.cumsum(trained) - 1, -1)
        parts = [np.unique(ratings.user[ratings.part == part]).tolist() for part, _ in PARTS]
        if not all(parts):
            few = "3 of one user" if config.split == "last" else "more"
            raise DataError(f"{root.name}: too few ratings to hold some out; {few} are needed")
        where = {"files": [str(file) for file in files], "stamps": stamps(files)}
        items = [
            Item(
                f"{split}/{ratings.users[user]}",
                split,
                ratings.users[user],
                {**where, "user": user, "number": int(number[user])},
            )
            for (_, split), users in zip(PARTS, parts, strict=True)
            for user in users
        ]
        items += [Item(name, "test" if test else "train", where={"fault": why}) for name, why, test in bad]
        own = ratings.part == TRAIN
        fields = {
            "rated": ratings.rated,
            "timed": ratings.timed,
            "duplicates": ratings.duplicates,
            "users": int(number.max()) + 1,
            "lowest": float(ratings.rating[own].min()),
            "highest": float(ratings.rating[own].max()),
            "first": int(ratings.time[own].min()),
            "last": int(ratings.time[own].max()),
        }
        assets = {"items.arrow": titles.items_asset(ratings.items, known)}
        return Scan(
            items=items,
            schema=Schema(fields=fields, assets=assets),
            files=[*files, *([named] if named else [])],
            licence=licence(folder),
        )

    def files(self, root: Path) -> list[Path]:
        """What is read of `path`, the file of test ratings last."""
        if root.is_file():
            return [root]
        for names in self.names:
            present = [root / name for name in names]
            if all(file.is_file() for file in present):
                return present
        wanted = " or ".join(" + ".join(names) for names in self.names)
        raise DataError(f"no ratings in {str(root)!r}: {wanted} is needed, or name the file itself")

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row | Fault]:
        trained = "users.arrow" in schema.assets  # it is a model's
        number: NDArray[np.int32] | None = None
        for item in items:
            if "fault" in item.where:
                yield Fault(item.where["fault"])
                continue
            files = tuple(Path(file) for file in item.where["files"])
            ratings, _ = load(files, tuple(map(tuple, item.where["stamps"])), config)
            user = item.where["user"]
            if trained:
                if schema.fields["rated"] and not ratings.rated:
                    raise DataError(f"{files[0].name}: it holds no ratings, which the model predicts")
                number = numbers(ratings.items, schema) if number is None else number
                yield of_model(held_out(ratings, user, item.split, every=True), number)
            elif item.split == "train":
                yield {"user": item.where["number"], **ratings.of(user, TRAIN)}
            else:
                yield held_out(ratings, user, item.split)


def held_out(ratings: Ratings, user: int, split: str, every: bool = False) -> Row:
    """A validation or test row: what is asked for, and `past_…`: what the request tells, which is what the
    model has not been trained on. `every`: it was trained on other data, and is told all that is not asked.
    `strange`: ratings of items that the model does not know, which it cannot name."""
    (asked,) = (part for part, name in PARTS if name == split)
    told = {TRAIN, VALIDATION, KNOWN} if every else {KNOWN, VALIDATION} if split == "test" else set()
    past = ratings.of(user, *(told - {asked}))
    return {
        "who": ratings.users[user],
        **ratings.of(user, asked),
        **{f"past_{name}": value for name, value in past.items()},
        "strange": 0,
    }


def numbers(ids: Sequence[str], schema: Schema) -> NDArray[np.int32]:
    """The model's number of each item of other data, -1 where it has none."""
    known = {name: number for number, name in enumerate(titles.ids(schema))}
    return np.array([known.get(name, -1) for name in ids], np.int32)


def of_model(row: Row, number: NDArray[np.int32]) -> Row:
    """A row of other data in the model's numbers."""
    found = dict(row)
    for prefix in ("", "past_"):
        items = number[row[f"{prefix}items"]]
        found[f"{prefix}items"] = items
        for name in ("items", "ratings", "times"):
            found[f"{prefix}{name}"] = found[f"{prefix}{name}"][items >= 0]
    return {**found, "strange": len(row["items"]) - len(found["items"])}


class Csv(Tables):
    names = (
        ("train.csv", "test.csv"),
        ("train.tsv", "test.tsv"),
        ("ratings.csv",),
        ("ratings.dat",),
        ("u.data",),
    )


class Parquet(Tables):
    names = (("train.parquet", "test.parquet"), ("ratings.parquet",))


def stamps(files: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """What tells whether files changed."""
    return tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def load(files: Sequence[Path], stamped: Any, config: Data) -> tuple[Ratings, Bad]:
    """The ratings of some files, and what cannot be used; read once a process."""
    return _load(tuple(files), stamped, config)


@lru_cache(maxsize=1)
def _load(files: tuple[Path, ...], stamped: Any, config: Data) -> tuple[Ratings, Bad]:
    columns = [read_columns(file, config) for file in files]
    bad = [
        (where, why, file != files[0])
        for file, part in zip(files, columns, strict=True)
        for where, why in part.bad
    ]
    for name, values in (("rating", "rating"), ("timestamp", "time")):
        lacks = [n for n, part in enumerate(columns) if getattr(part, values) is None]
        if 0 < len(lacks) < len(files):
            raise DataError(f"{files[lacks[0]].name}: no column of {name}s, unlike the other file; add it")
    if not any(len(part.user) for part in columns):
        first = f"; {bad[0][0]}: {bad[0][1]}" if bad else ""
        raise DataError(f"{files[0].name}: no usable rating{first}")
    # of two files the second is the test split
    return join([(part, number > 0) for number, part in enumerate(columns)], config), bad


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row is stored as it is: `user` int, `items` int32 [n], `ratings` float32 [n], `times` int64
    [n], oldest first."""
    if "user" not in row:
        return {}
    return dict(row)
