"""How games of a match begin."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from workloads.go.board import Kind, Rules, boards
from workloads.go.symmetries import symmetries

PLIES = 4
TRIES = 1_000  # draws in a row without a new opening, after which there are taken to be no more


def openings(rules: Rules, count: int, seed: int = 0, kind: Kind = "numba") -> list[tuple[int, ...]]:
    """The first `count` of `drawn`. ValueError where there are not so many."""
    if not 0 <= count <= 10_000:
        raise ValueError(f"count = {count}: 0 to 10000 openings are possible")
    found = list(islice(drawn(rules, seed, kind), count))
    if len(found) < count:
        raise ValueError(too_few(rules, count, len(found)))
    return found


def drawn(rules: Rules, seed: int = 0, kind: Kind = "numba") -> Iterator[tuple[int, ...]]:
    """Openings of 4 random legal plies, no passes, one after the other; no two lead to positions that a
    symmetry of the board makes the same."""
    rng = np.random.default_rng(seed)
    board = boards(rules, 1, kind)
    ways = symmetries(rules.rows, rules.columns)[:, :-1]
    seen: set[bytes] = set()
    missed = 0
    while missed < TRIES:
        missed += 1
        board.reset()
        moves: list[int] = []
        for _ in range(PLIES):
            legal = np.flatnonzero(board.legal[0, :-1])
            if len(legal):
                moves.append(int(rng.choice(legal)))
                board.step(moves[-1:])
        if len(moves) == PLIES:
            stones = board.stones[0].ravel()
            position = min(stones[way].tobytes() for way in ways)
            if position not in seen:
                seen.add(position)
                missed = 0
                yield tuple(moves)


def too_few(rules: Rules, count: int, found: int) -> str:
    size = f"{rules.rows} x {rules.columns}"
    return f"{count} openings: {found} different ones were found on a board of {size}"
