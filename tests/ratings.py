"""Ratings as files, and what recsys makes of them: what its tests of data ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.store import Store
from workloads.recsys import workload
from workloads.recsys.catalogue import Catalogue
from workloads.recsys.config import Data

Rating = tuple[str, str, float, int]
HEADER = ("user_id", "item_id", "rating", "timestamp")


def ratings(users: int = 14, items: int = 16, share: float = 0.6, seed: int = 0) -> list[Rating]:
    """Some of all pairs; several of a user at the same second."""
    draw = np.random.default_rng(seed)
    return [
        (f"{user}", f"{item}", float(draw.integers(1, 11)), 1_400_000_000 + int(draw.integers(40)) * 3_600)
        for user in range(users)
        for item in range(items)
        if draw.random() < share
    ]


def write(file: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = HEADER, mark: str = ",") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *rows] if header else rows
    file.write_text("".join(mark.join(f"{value:g}" if isinstance(value, float) else str(value)
                                      for value in line) + "\n" for line in lines))  # fmt: skip
    return file


def read(source: str, store: Store, data: Data | None = None, skip_bad: int = 0) -> Dataset:
    return prepare(workload, source, data or Data(), store, skip_bad=skip_bad, mapper=in_process)


def pairs(dataset: Dataset, split: str, prefix: str = "") -> list[tuple[str, str, float, int]]:
    """(user, item, rating, time) of every rating that the rows of a split hold."""
    names, shards = Catalogue(dataset.schema).ids, getattr(dataset, split)
    return [
        (row["item"].partition("/")[2], names[item], float(rating), int(time))
        for row in shards.rows(range(len(shards)))
        for item, rating, time in zip(
            row[f"{prefix}items"], row[f"{prefix}ratings"], row[f"{prefix}times"], strict=True
        )
    ]


def everything(dataset: Dataset) -> list[tuple[str, str, float, int]]:
    """What stands in any split."""
    return [rating for split in ("train", "validation", "test") for rating in pairs(dataset, split)]
