"""A generated world whose right moves are known: games of the greedy player against itself.

Each game starts with a few random moves. The player looks one move ahead (greedy.py) and plays all moves that
it finds equally good alike often, so each of them counts as right: who knows its rule has an `accuracy` of 1.
A random legal move is right for 0.23 of the positions of 5 x 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from penstock.errors import DataError
from penstock.workload import Item, Row, Scan, Schema
from workloads.go.board import Rules, boards
from workloads.go.config import Data
from workloads.go.data import match_row, record_row, scan_of, split_of
from workloads.go.greedy import GreedyPlayer
from workloads.go.match import ended, record_of
from workloads.go.record import write

RANDOM = 6  # random moves that a game starts with, at most


class Synthetic:
    """The source `synthetic`: `data.games` games on boards of `data.size`."""

    def scan(self, path: str, config: Data) -> Scan:
        names = [f"game/{number:06}" for number in range(config.games)]
        items = [
            Item(name, split_of(name, config), name, {"number": number}) for number, name in enumerate(names)
        ]
        splits = {item.split for item in items}
        if len(splits) < 3:
            raise DataError(f"data.games = {config.games}: too few, the {min(splits)} split gets all of them")
        return scan_of(items, config, [], "CC0-1.0")

    def read(self, items: Sequence[Item], config: Data, schema: Schema) -> Iterable[Row]:
        player = GreedyPlayer()
        for item in items:
            yield match_row(item) if "opponent" in item.where else game(item.where["number"], config, player)


def game(number: int, config: Data, player: GreedyPlayer) -> Row:
    """Game `number`, as SGF, with all right moves at each ply (none where the move was random)."""
    rules = Rules(config.size, config.size, config.komi)
    rng = np.random.Generator(np.random.Philox(key=(5, number)))
    board = boards(rules, 1)
    actions: list[int] = []
    accepted: list[list[int]] = []
    for _ in range(int(rng.integers(RANDOM + 1))):
        legal = np.flatnonzero(board.legal[0, :-1])
        if not len(legal):
            break
        actions.append(int(rng.choice(legal)))
        accepted.append([])
        board.step(actions[-1:])
    while not board.done[0]:
        best = player.best(board, 0)
        actions.append(int(rng.choice(best)))
        accepted.append(best.tolist())
        board.step(actions[-1:])
    return record_row(write(record_of(ended(board, actions, "both passed"), ("greedy", "greedy"))), accepted)
