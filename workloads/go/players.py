"""Who chooses moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import Board, Rules

Flags = NDArray[np.bool_]


class Player(Protocol):
    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        """An action for the side to move on board `row`; None resigns. The board is only looked at."""
        ...


@runtime_checkable
class Follower(Protocol):
    """A player that has to be told when a game begins."""

    def begin(self, rules: Rules, moves: Sequence[int]) -> None:
        """A new game from the empty board, in which `moves` have been played already."""
        ...


class Moved(Protocol):
    @property
    def action(self) -> int | None: ...


@runtime_checkable
class Timed(Protocol):
    """A player that can be told how long a move may take."""

    def think(
        self, board: Board, row: int, rng: np.random.Generator | None = None, seconds: float | None = None
    ) -> Moved:
        """`choose` within so many seconds; `rng` is for a player that is to move at random."""
        ...


class RandomPlayer:
    """Uniform over the legal points that are no eyes of its own; passes when there are none."""

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        own = board.stones[row] * board.to_play[row]
        wanted = np.flatnonzero(useful((own == 1)[None], (own == -1)[None], board.legal[row][None])[0])
        return int(rng.choice(wanted)) if len(wanted) else board.rules.points


def useful(own: Flags, enemy: Flags, legal: Flags) -> Flags:
    """The legal points that are no eye of one's own, bool [n, points]. `own`, `enemy`: bool
    [n, rows, columns]; `legal`: bool [n, actions]. An eye: all neighbours are own stones, and at most one
    diagonal point, none beside the border, is the enemy's."""
    inside = np.pad(np.ones(own.shape[1:], np.int8), 1)
    wall = np.pad(own, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    closed = wall[:, :-2, 1:-1] & wall[:, 2:, 1:-1] & wall[:, 1:-1, :-2] & wall[:, 1:-1, 2:]
    foes = np.pad(enemy, ((0, 0), (1, 1), (1, 1))).astype(np.int8)
    corners = [(slice(None, -2), slice(None, -2)), (slice(None, -2), slice(2, None))]
    corners += [(slice(2, None), slice(None, -2)), (slice(2, None), slice(2, None))]
    cut = sum(foes[:, down, across] for down, across in corners)
    whole = sum(inside[down, across] for down, across in corners) == 4
    eye = closed & (cut <= whole)
    return np.asarray(legal[:, :-1] & ~eye.reshape(len(legal), -1), np.bool_)
