"""The positions that self-play remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[np.generic]]
FEWEST = 20_000  # rows before which all are drawn from
SHARE = 0.6  # of all rows that ever came, the newest, are drawn from: the first ones were played by a novice


class Ring:
    """The newest `capacity` rows, of one kind: rows of another kind forget those before."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.kind = ""
        self.columns: dict[str, NDArray[np.generic]] = {}
        self.total = 0  # rows that ever came, of this kind

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def add(self, kind: str, rows: Columns) -> int:
        """Remembers rows; gives how many."""
        count = len(next(iter(rows.values()))) if rows else 0
        if kind != self.kind:
            self.kind, self.columns, self.total = kind, {}, 0
        if not count:
            return 0
        if not self.columns:
            self.columns = {
                name: np.empty((self.capacity, *values.shape[1:]), values.dtype)
                for name, values in rows.items()
            }
        places = (self.total + np.arange(count)) % self.capacity
        for name, values in rows.items():
            self.columns[name][places] = values
        self.total += count
        return count

    def draw(self, count: int, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
        """Random rows, with replacement, of the newest: all while they are few, later a share."""
        window = min(len(self), max(FEWEST, int(SHARE * self.total)))
        places = (self.total - 1 - rng.integers(window, size=count)) % self.capacity
        return {name: values[places] for name, values in self.columns.items()}

    def state(self) -> dict[str, Any]:
        """Everything, with no more rows than there are."""
        filled = {name: values[: len(self)] for name, values in self.columns.items()}
        return {"kind": self.kind, "total": self.total, "columns": filled}

    def load(self, state: Mapping[str, Any]) -> None:
        self.kind, self.total, self.columns = state["kind"], state["total"], {}
        for name, values in state["columns"].items():
            self.columns[name] = np.empty((self.capacity, *values.shape[1:]), values.dtype)
            self.columns[name][: len(values)] = values
