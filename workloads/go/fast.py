"""The board for use: compiled by numba, each board one record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workloads.go import batches, kernel
from workloads.go.board import BLACK, Board, Rows, Rules, neighbours, zobrist
from workloads.go.layout import layout


class NumbaBoard(Board):
    """`state` holds everything, one record a board (layout.py); the arrays of `Board` are views of it."""

    def __init__(self, rules: Rules, count: int = 1) -> None:
        self.rules = rules
        self.state = np.zeros(count, layout(rules))
        points = rules.points
        self.cells = self.state["cells"][:, : points + 1]
        self.stones = np.lib.stride_tricks.as_strided(
            self.cells, (count, rules.rows, rules.columns), (self.cells.strides[0], rules.columns, 1)
        )
        self.legal = self.state["legal"][:, : points + 1].view(np.bool_)
        for name in ("to_play", "plies", "passes", "over", "truncated", "last", "komi"):
            setattr(self, name, self.state[name])
        self.near, self.numbers = neighbours(rules.rows, rules.columns), zobrist()
        self.every = np.arange(count)
        self.switches = points, rules.suicide, rules.superko == "simple"
        empty = np.zeros(1, self.state.dtype)
        self.start(empty, np.zeros(points, np.int8), BLACK)
        self.empty = words_of(empty)[0]
        self.words = words_of(self.state)
        self.reset()

    def step(self, actions: Rows) -> None:
        chosen = np.ascontiguousarray(actions, np.int64)
        if (
            chosen.shape != self.to_play.shape
            or batches.first_illegal(self.state, chosen, self.rules.points) >= 0
        ):
            super().step(chosen)  # says what is wrong
            return
        self.play(chosen)

    def play(self, actions: NDArray[np.int64], rows: Rows | None = None) -> None:
        points, suicide, simple = self.switches
        boards = self.every if rows is None else np.asarray(rows, np.int64)
        kernel.play_all(
            *(self.state, boards, self.near, self.numbers),
            *(actions, points, self.rules.cap, suicide, simple),
        )

    def reset(self, rows: Rows | None = None) -> None:
        self.words[slice(None) if rows is None else np.asarray(rows, np.int64)] = self.empty

    def reset_done(self) -> None:
        batches.reset_done(self.state, self.words, self.empty)

    def set_up(self, row: int, stones: NDArray[np.int8], to_play: int = BLACK) -> None:
        self.start(self.state[row : row + 1], self.checked(stones, to_play), to_play)

    def start(self, record: NDArray[np.void], stones: NDArray[np.int8], to_play: int) -> None:
        kernel.start(record, self.near, self.numbers, stones, to_play, *self.switches)
        record["komi"] = self.rules.komi

    def copy(self, source: Rows, target: Rows, other: Board | None = None) -> None:
        giver = self if other is None else self.kin(other)
        self.words[np.asarray(target)] = giver.words[np.asarray(source)]

    def same(self, rows: Rows, other: Board, row: int) -> NDArray[np.bool_]:
        return np.asarray(
            (self.words[np.asarray(rows, np.int64)] == self.kin(other).words[row]).all(1), np.bool_
        )

    def kin(self, other: Board) -> NumbaBoard:
        if not isinstance(other, NumbaBoard) or other.rules != self.rules:
            kind = type(other).__name__
            raise ValueError(f"boards of the same kind and rules are needed, not {kind} of {other.rules}")
        return other

    def resume(self, row: int, to_play: int) -> None:
        kernel.resume(self.state[row : row + 1], self.near, self.numbers, to_play, *self.switches)

    def ownership(self, rows: Rows | None = None) -> NDArray[np.int8]:
        boards = self.every if rows is None else np.asarray(rows, np.int64)
        owned = np.zeros((len(boards), *self.stones.shape[1:]), np.int8)
        batches.own_all(self.state, boards, self.near, owned.reshape(len(boards), -1))
        return owned


def words_of(state: NDArray[np.void]) -> NDArray[np.uint64]:
    """Records as rows of numbers, which numpy copies whole and not field by field: [N, words]."""
    return state.view(np.uint64).reshape(len(state), -1)
