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
Bad = list[tuple[str, str]]
NOTHING = {"items": np.empty(0, np.int32), "ratings": np.empty(0, np.float32), "times": np.empty(0, np.int64)}


class Tables:
    """The formats `csv` and `parquet`."""

    endings: tuple[str, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()

    def scan(self, path: str, config: Data) -> Scan:
        root = Path(path).expanduser()
        files = self.files(root)
        ratings, bad = load(files, stamps(files), config)
        folder = root if root.is_dir() else root.parent
        named = titles.find(folder)
        known = titles.read_titles(named) if named else {}
        trained = np.bincount(ratings.user[ratings.part == TRAIN], minlength=len(ratings.users)) > 0
        if not trained.any():
            raise DataError(f"{root.name}: no rating is left to train on; lower data.test")
        # a user's number is the place among those that train: the rows' own order
        number = np.where(trained, np.cumsum(trained) - 1, -1)
        parts = [set(np.unique(ratings.user[ratings.part == part]).tolist()) for part, _ in PARTS]
        where = {"files": [str(file) for file in files], "stamps": stamps(files)}
        items = [
            Item(
                f"{split}/{ratings.users[user]}",
                split,
                ratings.users[user],
                {**where, "user": user, "number": int(number[user])},
            )
            for (_, split), users in zip(PARTS, parts, strict=True)
            for user in sorted(users)
        ]
        items += [Item(name, "train", where={"fault": why}) for name, why in bad]
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
        for item in items:
            if "fault" in item.where:
                yield Fault(item.where["fault"])
                continue
            files = tuple(Path(file) for file in item.where["files"])
            ratings, _ = load(files, tuple(map(tuple, item.where["stamps"])), config)
            user = item.where["user"]
            if item.split == "train":
                yield {"user": item.where["number"], **ratings.of(user, TRAIN)}
            else:
                yield held_out(ratings, user, item.split)


def held_out(ratings: Ratings, user: int, split: str) -> Row:
    """A validation or test row: what is asked for, and `past_…`: what the model has not been trained on but
    the request tells it."""
    if split == "validation":
        past = NOTHING
    else:
        kinds = [ratings.of(user, part) for part in (VALIDATION, KNOWN)]
        past = {name: np.concatenate([kind[name] for kind in kinds]) for name in NOTHING}
    asked = ratings.of(user, TEST if split == "test" else VALIDATION)
    return {"who": ratings.users[user], **asked, **{f"past_{name}": value for name, value in past.items()}}


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
    """The ratings of some files, and the name and fault of each row that cannot be used; read once a
    process."""
    return _load(tuple(files), stamped, config)


@lru_cache(maxsize=1)
def _load(files: tuple[Path, ...], stamped: Any, config: Data) -> tuple[Ratings, Bad]:
    columns = [read_columns(file, config) for file in files]
    bad = [
        (f"{file.name} line {line or '?'}", why)
        for file, part in zip(files, columns, strict=True)
        for line, why in part.bad
    ]
    marked = [len(files) == 2 and file == files[1] for file in files]
    return join(list(zip(columns, marked, strict=True)), config), bad


def decode(row: Row, config: Data, schema: Schema) -> Row:
    """A train row is stored as it is: `user` int, `items` int32 [n], `ratings` float32 [n], `times` int64
    [n], oldest first."""
    if "user" not in row:
        return {}
    return dict(row)
