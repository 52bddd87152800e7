"""The board to be read: numpy over all boards at once, and after every move all is looked at anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import BLACK, EMPTY, Board, Rows, Rules, neighbours, zobrist

BORDER = 2
NONE = np.uint64(0)
Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
REMEMBERED = (
    *("cells", "chain", "to_play", "legal", "plies", "passes", "over", "truncated", "last"),
    *("hash", "before", "positions", "known", "komi"),
)


class NumpyBoard(Board):
    """`cells` int8 [N, P + 1] are the stones and, last, the border. `chain` int32 [N, P + 1] names each
    stone's chain by one of its points; two stones are of one chain when they have the same name.
    `positions` uint64 [N, cap + 1] are all that stood on the board, `known` how many; `before` is the one
    before the last action."""

    def __init__(self, rules: Rules, count: int = 1) -> None:
        points = rules.points
        self.rules = rules
        self.near = neighbours(rules.rows, rules.columns)
        self.cells = np.zeros((count, points + 1), np.int8)
        self.cells[:, points] = BORDER
        self.stones = self.cells[:, :points].reshape(count, rules.rows, rules.columns)
        if not np.shares_memory(self.stones, self.cells):
            raise AssertionError("`stones` shows the cells")
        self.chain = np.zeros((count, points + 1), np.int32)
        self.to_play = np.zeros(count, np.int8)
        self.legal = np.zeros((count, rules.actions), np.bool_)
        self.plies = np.zeros(count, np.int32)
        self.passes = np.zeros(count, np.int8)
        self.over = np.zeros(count, np.bool_)
        self.truncated = np.zeros(count, np.bool_)
        self.last = np.zeros(count, np.int32)
        self.komi = np.zeros(count, np.float32)
        self.hash = np.zeros(count, np.uint64)
        self.before = np.zeros(count, np.uint64)
        self.positions = np.zeros((count, rules.cap + 1), np.uint64)
        self.known = np.zeros(count, np.int32)
        # white, nothing, black -> its numbers
        black, white = zobrist()[:, :points]
        self.numbers = np.stack([np.append(one, NONE) for one in (white, np.zeros(points, np.uint64), black)])
        self.reset()

    # ---------------------------------------------------------------- moves

    def play(self, actions: NDArray[np.int64], rows: Rows | None = None) -> None:
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        moved, actions = chosen[actions >= 0], actions[actions >= 0]
        passed = actions == self.rules.points
        self.before[moved] = self.hash[moved]
        self.put(moved[~passed], actions[~passed])
        self.last[moved] = actions
        self.passes[moved] = np.where(passed, self.passes[moved] + 1, 0)
        self.to_play[moved] *= -1
        self.plies[moved] += 1
        self.over[moved] = self.passes[moved] >= 2
        self.truncated[moved] = ~self.over[moved] & (self.plies[moved] >= self.rules.cap)
        self.refresh(moved)

    def put(self, rows: NDArray[np.int64], points: NDArray[np.int64]) -> None:
        """A stone of the side to move on each of the boards `rows`, and what it captures."""
        colour = self.to_play[rows]
        self.cells[rows, points] = colour
        self.chain[rows, points] = points
        for near in self.near[points].T:
            friend = self.cells[rows, near] == colour
            joined = rows[friend], near[friend], points[friend]
            old = self.chain[joined[0], joined[1]]
            chains = self.chain[joined[0]]
            self.chain[joined[0]] = np.where(chains == old[:, None], joined[2][:, None], chains)
        for side in (-colour, colour):  # the enemy's stones first
            dead = (self.cells[rows] == side[:, None]) & (self.liberties_of(rows) == 0)
            self.clear(rows, dead)
        self.hash[rows] = self.hash_of(rows)
        self.positions[rows, self.known[rows]] = self.hash[rows]
        self.known[rows] += 1

    def clear(self, rows: NDArray[np.int64], dead: Flags) -> None:
        self.cells[rows] = np.where(dead, EMPTY, self.cells[rows])
        self.chain[rows] = np.where(dead, self.rules.points, self.chain[rows])

    def hash_of(self, rows: NDArray[np.int64]) -> Hashes:
        each = self.numbers[self.cells[rows, :-1] + 1, np.arange(self.rules.points)]
        return np.asarray(np.bitwise_xor.reduce(each, 1), np.uint64)

    # ---------------------------------------------------------------- what may be played

    def liberties_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many liberties the chain of each point has, [n, P + 1]; of no chain nothing that counts."""
        size = self.rules.points + 1
        chain = self.chain[rows][:, self.near]  # [n, P + 1, 4]
        first = distinct(chain)
        first[..., -1, :] = False
        first &= (self.cells[rows] == EMPTY)[..., None]  # an empty point is a liberty of its neighbours
        owner = np.arange(len(rows))[:, None, None] * size + chain
        counts = np.bincount(owner[first], minlength=len(rows) * size).reshape(len(rows), size)
        return np.asarray(np.take_along_axis(counts, self.chain[rows].astype(np.int64), 1))

    def refresh(self, rows: NDArray[np.int64]) -> None:
        """The legal actions of the side to move."""
        if not len(rows):
            return
        points = self.rules.points
        cells, chain = self.cells[rows], self.chain[rows]
        colour = self.to_play[rows][:, None, None]
        around, liberties = cells[:, self.near[:-1]], self.liberties_of(rows)[:, self.near[:-1]]
        captures = (around == -colour) & (liberties == 1)
        joins = around == colour
        breathes = ((around == EMPTY) | captures | (joins & (liberties > 1))).any(2)
        empty = cells[:, :-1] == EMPTY
        legal = empty & (breathes | self.rules.suicide)
        # the position after a move: without what is captured, or without its own stones where it is suicide
        gone = np.where(breathes[..., None], captures, joins) & distinct(chain[:, self.near[:-1]])
        lost = np.bitwise_xor.reduce(np.where(gone, self.chain_hashes(rows)[:, self.near[:-1]], NONE), 2)
        own = np.where(self.to_play[rows, None] == BLACK, self.numbers[2], self.numbers[0])[:, :-1]
        after = self.hash[rows, None] ^ lost ^ np.where(breathes, own, NONE)
        legal &= ~self.repeats(rows, after, legal)
        self.legal[rows, :points] = legal
        self.legal[rows, points] = True
        self.legal[rows[self.done[rows]]] = False

    def chain_hashes(self, rows: NDArray[np.int64]) -> Hashes:
        """XOR of the numbers of a chain's stones, given at each of its points, uint64 [n, P + 1]."""
        size = self.rules.points + 1
        each = self.numbers[self.cells[rows, :-1] + 1, np.arange(size - 1)]
        owner = (np.arange(len(rows))[:, None] * size + self.chain[rows])[:, :-1]
        sums = np.zeros(len(rows) * size, np.uint64)
        np.bitwise_xor.at(sums, owner.ravel(), each.ravel())
        return np.take_along_axis(sums.reshape(len(rows), size), self.chain[rows].astype(np.int64), 1)

    def repeats(self, rows: NDArray[np.int64], after: Hashes, wanted: Flags) -> Flags:
        """Which of the `wanted` moves bring back a position that may not come back, [n, P]."""
        if self.rules.superko == "simple":
            return np.asarray(after == self.before[rows, None])
        found = np.zeros_like(wanted)
        row, point = np.nonzero(wanted)
        known = self.known[rows]
        most = int(known.max(initial=0))
        seen = self.positions[rows[row], :most] == after[row, point][:, None]
        found[row, point] = (seen & (np.arange(most) < known[row][:, None])).any(1)
        return found

    # ---------------------------------------------------------------- whole boards

    def reset(self, rows: Rows | None = None) -> None:
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        self.start(chosen, np.zeros((len(chosen), self.rules.points), np.int8), BLACK)

    def set_up(self, row: int, stones: NDArray[np.int8], to_play: int = BLACK) -> None:
        self.start(np.array([row]), self.checked(stones, to_play)[None], to_play)

    def resume(self, row: int, to_play: int) -> None:
        self.to_play[row], self.passes[row], self.over[row] = to_play, 0, False
        self.before[row] = self.hash[row]
        self.refresh(np.array([row]))

    def start(self, rows: NDArray[np.int64], stones: NDArray[np.int8], to_play: int) -> None:
        self.cells[rows, :-1] = stones
        self.komi[rows] = self.rules.komi
        self.chain[rows] = self.rules.points
        for point in range(self.rules.points):  # each stone takes over the chains of its neighbours
            there = rows[self.cells[rows, point] != EMPTY]
            self.chain[there, point] = point
            for near in self.near[point]:
                same = there[self.cells[there, near] == self.cells[there, point]]
                old = self.chain[same, near][:, None]
                joined = (self.chain[same] == old) & (old < self.rules.points)
                self.chain[same] = np.where(joined, point, self.chain[same])
        for name, value in {"to_play": to_play, "plies": 0, "passes": 0, "over": False, "last": -1}.items():
            getattr(self, name)[rows] = value
        self.truncated[rows] = False
        self.hash[rows] = self.before[rows] = self.hash_of(rows)
        self.positions[rows, 0] = self.hash[rows]
        self.known[rows] = 1
        self.refresh(rows)

    def copy(self, source: Rows, target: Rows, other: Board | None = None) -> None:
        giver = self if other is None else self.kin(other)
        for name in REMEMBERED:
            getattr(self, name)[target] = getattr(giver, name)[source]

    def same(self, rows: Rows, other: Board, row: int) -> Flags:
        giver, alike = self.kin(other), np.ones(len(rows), np.bool_)
        for name in REMEMBERED:
            equal = getattr(self, name)[np.asarray(rows, np.int64)] == getattr(giver, name)[row]
            alike &= equal.all(tuple(range(1, equal.ndim)))
        return alike

    def kin(self, other: Board) -> NumpyBoard:
        if not isinstance(other, NumpyBoard) or other.rules != self.rules:
            kind = type(other).__name__
            raise ValueError(f"boards of the same kind and rules are needed, not {kind} of {other.rules}")
        return other

    def ownership(self, rows: Rows | None = None) -> NDArray[np.int8]:
        cells = self.cells if rows is None else self.cells[np.asarray(rows, np.int64)]
        reach = [cells == BLACK, cells == -BLACK]
        for colour in (0, 1):
            count = -1
            while count != (count := int(reach[colour].sum())):
                spread = reach[colour][:, self.near].any(2) & (cells == EMPTY)
                reach[colour] |= spread
        owned = (reach[0] & ~reach[1]).astype(np.int8) - (reach[1] & ~reach[0])
        return np.asarray(owned[:, :-1].reshape(len(cells), *self.stones.shape[1:]), np.int8)


def distinct(values: NDArray[np.int32]) -> Flags:
    """Which of the last axis' values has not come before in it."""
    first = np.ones(values.shape, np.bool_)
    for place in range(1, values.shape[-1]):
        first[..., place] = (values[..., :place] != values[..., place : place + 1]).all(-1)
    return first
