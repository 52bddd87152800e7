"""A Go board for tests that a reader can check by eye: sets of points, every position kept whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import Reason, Rules

Position = tuple[int, ...]


class NaiveBoard:
    """One board. `position`: 1, -1 or 0 for each point; `history`: all that ever stood on it."""

    def __init__(self, rules: Rules, position: Position | None = None, to_play: int = 1) -> None:
        self.rules, self.to_play = rules, to_play
        self.position: Position = position or (0,) * rules.points
        self.history = [self.position]
        self.before = self.position
        self.passes = self.plies = 0

    def around(self, point: int) -> Iterator[int]:
        row, column = divmod(point, self.rules.columns)
        for r, c in ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)):
            if 0 <= r < self.rules.rows and 0 <= c < self.rules.columns:
                yield r * self.rules.columns + c

    def region(self, position: Position, point: int) -> tuple[set[int], set[int]]:
        """All points of one colour that hang together, and what borders on them."""
        inside, border, waiting = {point}, set(), [point]
        while waiting:
            for near in self.around(waiting.pop()):
                if position[near] != position[point]:
                    border.add(near)
                elif near not in inside:
                    inside.add(near)
                    waiting.append(near)
        return inside, border

    def without_dead(self, position: Position, colour: int) -> Position:
        cells = list(position)
        for point, stone in enumerate(position):
            if stone == colour:
                inside, border = self.region(position, point)
                if all(position[near] != 0 for near in border):
                    for one in inside:
                        cells[one] = 0
        return tuple(cells)

    def verdict(self, action: int) -> tuple[Reason | None, Position]:
        """Why it may not be played, and the position after it."""
        if self.passes >= 2 or self.plies >= self.rules.cap:
            return "over", self.position
        if action == self.rules.points:
            return None, self.position
        if self.position[action]:
            return "occupied", self.position
        cells = list(self.position)
        cells[action] = self.to_play
        after = self.without_dead(tuple(cells), -self.to_play)
        own = self.without_dead(after, self.to_play)
        if own != after and not self.rules.suicide:
            return "suicide", own
        old = [self.before] if self.rules.superko == "simple" else self.history
        return ("superko" if own in old else None), own

    def legal(self) -> NDArray[np.bool_]:
        return np.array([self.verdict(action)[0] is None for action in range(self.rules.actions)])

    def play(self, action: int) -> None:
        why, after = self.verdict(action)
        assert why is None, why
        self.before = self.position
        self.passes = self.passes + 1 if action == self.rules.points else 0
        if action != self.rules.points:
            self.history.append(after)
        self.position, self.to_play, self.plies = after, -self.to_play, self.plies + 1

    def ownership(self) -> list[int]:
        owned = []
        for point, stone in enumerate(self.position):
            reached = {self.position[near] for near in self.region(self.position, point)[1]}
            owned.append(stone or (reached.pop() if len(reached) == 1 else 0))
        return owned
