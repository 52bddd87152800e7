"""Who chooses moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from workloads.go.board import Board, Rules, neighbours


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


class RandomPlayer:
    """Uniform over the legal points that are no eyes of its own; passes when there are none."""

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int | None:
        rules, colour = board.rules, board.to_play[row]
        cells = np.append(board.stones[row].ravel(), colour)  # the border is a wall of an eye as well
        eye = (cells[neighbours(rules.rows, rules.columns)[:-1]] == colour).all(1)
        wanted = np.flatnonzero(board.legal[row, :-1] & ~eye)
        return int(rng.choice(wanted)) if len(wanted) else rules.points
