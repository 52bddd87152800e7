"""A player that looks one move ahead: the fixed opponent of evaluation, and the author of generated games.

A position is worth, to who has just moved: ten for each own stone more than the enemy has, less twelve for
each own stone that can be captured at once, five for each of the enemy's, and one for each empty point beside
own stones less those beside the enemy's. The best useful move (players.useful) is played, all equally good
ones alike often; a pass where nothing is useful.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import Board, neighbours
from workloads.go.planes import all_liberties
from workloads.go.players import useful

STONE, ATARI, THREAT, REACH = 10, 12, 5, 1


class GreedyPlayer:
    """Plays by `best` (players.Player)."""

    def __init__(self) -> None:
        self.scratch: Board | None = None

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int:
        return int(rng.choice(self.best(board, row)))

    def best(self, board: Board, row: int) -> NDArray[np.int64]:
        """All equally good actions, int64, ascending."""
        own = board.stones[row] * board.to_play[row]
        moves = np.flatnonzero(useful((own == 1)[None], (own == -1)[None], board.legal[row][None])[0])
        if not len(moves):
            return np.array([board.rules.points])
        if self.scratch is None or self.scratch.rules != board.rules:
            self.scratch = type(board)(board.rules, board.rules.points)
        after = np.arange(len(moves))
        self.scratch.copy(np.full(len(moves), row), after, board)
        self.scratch.play(moves, after)
        mine = self.scratch.stones[after] * board.to_play[row]
        worth = value(mine.reshape(len(moves), -1), neighbours(board.rules.rows, board.rules.columns))
        return np.asarray(moves[worth == worth.max()], np.int64)


def value(own: NDArray[np.int8], near: NDArray[np.uint16]) -> NDArray[np.int64]:
    """What positions are worth to who has just moved, int64 [n]. `own` int8 [n, points]: 1 one's own stones,
    -1 the enemy's; `near` as `neighbours` gives it."""
    free = all_liberties(np.ascontiguousarray(own), near)
    worth = STONE * own.sum(1, dtype=np.int64)
    worth -= ATARI * ((own == 1) & (free == 1)).sum(1) - THREAT * ((own == -1) & (free == 1)).sum(1)
    framed = np.concatenate([own, np.zeros((len(own), 1), own.dtype)], 1)
    beside = framed[:, near[:-1]]  # [n, points, 4]
    empty = own == 0
    for side, sign in ((1, REACH), (-1, -REACH)):
        worth += sign * (empty & (beside == side).any(2)).sum(1)
    return np.asarray(worth, np.int64)
