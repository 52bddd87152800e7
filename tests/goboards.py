"""What the tests of the Go boards share: the kinds, drawings of positions, random play."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import BLACK, WHITE, Board, Kind, Rules, boards

KINDS: tuple[Kind, ...] = ("numba", "numpy")
STONES = {"X": BLACK, "O": WHITE}
FIELDS = ("stones", "to_play", "legal", "plies", "passes", "over", "truncated", "last")


def stones(drawing: str) -> NDArray[np.int8]:
    """Lines between blanks, from the top: X black, O white, all else empty."""
    return np.array([[STONES.get(cell, 0) for cell in line] for line in drawing.split()], np.int8)


def draw(position: NDArray[np.int8]) -> str:
    return " ".join("".join(".XO"[cell] for cell in line) for line in position)


def game(kind: Kind, drawing: str, to_play: int = BLACK, **rules: Any) -> tuple[Board, dict[str, int]]:
    """One board set up as drawn, and the empty points that small letters name."""
    position = stones(drawing)
    board = boards(Rules(*position.shape, **rules), 1, kind)
    board.set_up(0, position, to_play)
    cells = drawing.replace(" ", "")
    return board, {name: cells.index(name) for name in cells if name.islower()}


def play(board: Board, *actions: int) -> None:
    """What is played on the only board, in turn."""
    for action in actions:
        board.step([action])


def state(board: Board, row: int) -> dict[str, Any]:
    """All that a board shows."""
    return {name: getattr(board, name)[row].tolist() for name in FIELDS}


def pick(board: Board, dice: np.random.Generator, passing: float = 1.0) -> NDArray[np.int64]:
    """A random legal action for each board, -1 where it is done. Of the boards that have another move the
    share `passing` may draw a pass."""
    weights = np.where(board.legal, dice.random(board.legal.shape), -1.0)
    weights[dice.random(len(board)) >= passing, -1] = 0.0
    return np.where(board.done, -1, weights.argmax(1))
