"""Random draws about an item, keyed by (seed, epoch, purpose, item): the same on any worker, in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from penstock.data.order import Indices, key
from penstock.data.shards import Shards
from penstock.workload import Row


class ItemDraws:
    """Generators for the items of one epoch.

    One Philox generator is moved to the item's own stretch of 2**192 numbers: about 1 us, where a
    new generator costs 60 us.
    """

    def __init__(self, seed: int, epoch: int, purpose: str = "aug") -> None:
        self._bits = np.random.Philox(key=key(purpose, seed, epoch))
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state

    def at(self, item: int) -> np.random.Generator:
        """The generator of `item`, at its beginning; good until the next call."""
        state = self._state
        state["state"]["counter"][:] = (0, 0, 0, item)
        state["buffer_pos"] = 4  # the buffered numbers belong to another item
        state["has_uint32"] = 0
        self._bits.state = state
        return self._generator


class Items:
    """The rows at `indices`, in their order, each with its own generator (penstock.workload.Batch)."""

    def __init__(self, rows: Shards, indices: Sequence[int] | Indices, draws: ItemDraws) -> None:
        self._rows = rows
        self._indices = indices
        self._draws = draws

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[Row, np.random.Generator]]:
        for index in self._indices:
            yield self._rows.row(int(index)), self._draws.at(int(index))

    def partner(self, generator: np.random.Generator) -> Row:
        """A row of the whole training set, drawn by an item's generator (which moves on by that one draw)."""
        return self._rows.row(int(generator.integers(len(self._rows))))
