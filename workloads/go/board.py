"""Many Go boards stepped together: what every implementation shares, and how it is used.

The rules (Tromp-Taylor, with switches): stones without liberties are captured, the enemy's first; suicide is
forbidden unless `Rules.suicide`; no move may recreate an earlier position of the whole board (positional
superko; the starting position counts, passes neither add nor forbid), or with `Rules.superko = "simple"` only
the one before the opponent's last move; two passes in a row end the game; every stone on the board is alive
at the end, and a point counts for a colour when it is of it or reaches only it.

`NumpyBoard` (reference.py) is written to be read, `NumbaBoard` (fast.py) to be fast; both are this interface,
and answer alike. Nothing here knows of learning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BLACK, WHITE, EMPTY = 1, -1, 0
LONGEST = 32_000  # plies of a game that can be kept: positions are counted in 16 bits
Rows = Sequence[int] | NDArray[np.integer]
Reason = Literal["over", "occupied", "suicide", "superko"]
Kind = Literal["numba", "numpy"]


@dataclass(frozen=True)
class Rules:
    """What is played, on how large a board. ValueError for what cannot be played."""

    rows: int = 9  # 1 to 19
    columns: int = 9
    komi: float = 7.0  # points White gets for moving second
    suicide: bool = False  # whether a move may leave its own stones without liberties
    superko: Literal["positional", "simple"] = "positional"
    most_plies: int = 0  # after so many the game is cut off, unfinished; 0 = twice the points, at least 20

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            if not 1 <= getattr(self, name) <= 19:
                raise ValueError(f"{name} = {getattr(self, name)}: a board has 1 to 19")
        if not abs(self.komi) <= 1000:  # NaN is no number of points either
            raise ValueError(f"komi = {self.komi}: a number of points up to 1000 is needed")
        if not 0 <= self.most_plies <= LONGEST:
            raise ValueError(f"most_plies = {self.most_plies}: 0 to {LONGEST} are possible")

    @property
    def points(self) -> int:
        return self.rows * self.columns

    @property
    def actions(self) -> int:
        """Every point, row by row from the top left, then the pass."""
        return self.points + 1

    @property
    def cap(self) -> int:
        return self.most_plies or max(2 * self.points, 20)


class IllegalMove(ValueError):
    """`board`: its number; `action`; `reason`: why. Nothing has been played on any board."""

    def __init__(self, board: int, action: int, reason: Reason) -> None:
        super().__init__(f"board {board}, action {action}: {SAYS[reason]}")
        self.board, self.action, self.reason = board, action, reason


SAYS: dict[Reason, str] = {
    "over": "the game is over",
    "occupied": "a stone is there",
    "suicide": "its own stones would have no liberty",
    "superko": "an earlier position would come back",
}


class Board(ABC):
    """`count` boards under the same rules. The arrays are the boards' own: read them, do not write.

    `stones` int8 [N, rows, columns]: 1 black, -1 white, 0 empty. `to_play` int8 [N]: 1 or -1. `legal`
    bool [N, actions]: what the side to move may do, nothing where the game is done. `plies` int32 [N].
    `passes` int8 [N]: in a row, just now. `over` bool [N]: two passes. `truncated` bool [N]: cut off.
    `last` int32 [N]: the last action, -1 at the start. `komi` float32 [N]: that of the game under way, the
    rules' unless written over; the one array that may be.
    """

    rules: Rules
    stones: NDArray[np.int8]
    to_play: NDArray[np.int8]
    legal: NDArray[np.bool_]
    plies: NDArray[np.int32]
    passes: NDArray[np.int8]
    over: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    last: NDArray[np.int32]
    komi: NDArray[np.float32]

    @abstractmethod
    def __init__(self, rules: Rules, count: int = 1) -> None: ...

    def __len__(self) -> int:
        return len(self.to_play)

    @property
    def done(self) -> NDArray[np.bool_]:
        return self.over | self.truncated

    def step(self, actions: Rows) -> None:
        """One action each, int [N]; -1 leaves a board alone. IllegalMove, before anything is played."""
        chosen = np.ascontiguousarray(actions, np.int64)
        if chosen.shape != self.to_play.shape:
            raise ValueError(f"actions have the shape {chosen.shape}; one for each of {len(self)} boards")
        rows = np.flatnonzero(chosen != -1)
        wanted = chosen[rows]
        outside = (wanted < 0) | (wanted >= self.rules.actions)
        if outside.any():
            raise ValueError(f"action {wanted[outside][0]}: 0 to {self.rules.actions - 1} are possible")
        wrong = ~self.legal[rows, wanted]
        if wrong.any():
            row, action = int(rows[wrong][0]), int(wanted[wrong][0])
            raise IllegalMove(row, action, self.why(row, action) or "over")
        self.play(chosen)

    def why(self, row: int, action: int) -> Reason | None:
        """Why the side to move may not do it; None where it may."""
        if self.legal[row, action]:
            return None
        if self.done[row]:
            return "over"
        point = divmod(action, self.rules.columns)
        if self.stones[row][point] != EMPTY:
            return "occupied"
        return "superko" if self.rules.suicide or self.breathes(row, action) else "suicide"

    def breathes(self, row: int, point: int) -> bool:
        """Whether a stone of the side to move at the empty `point` would end with a liberty."""
        colour = int(self.to_play[row])
        stones = self.stones[row].ravel()
        for near in neighbours(self.rules.rows, self.rules.columns)[point]:
            if near == len(stones):
                continue
            if stones[near] == EMPTY:
                return True
            if (liberties(self.stones[row], int(near)) == 1) != (stones[near] == colour):
                return True
        return False

    def value(self, rows: Rows | None = None) -> NDArray[np.float32]:
        """Black's points minus White's, komi counted, float32 [n]."""
        komi = self.komi if rows is None else self.komi[np.asarray(rows, np.int64)]
        return np.asarray(self.score(rows) - komi, np.float32)

    def score(self, rows: Rows | None = None) -> NDArray[np.int32]:
        """Black's area minus White's as the stones stand, without komi, int32 [n]."""
        return np.asarray(self.ownership(rows).sum((1, 2)), np.int32)

    @abstractmethod
    def play(self, actions: NDArray[np.int64], rows: Rows | None = None) -> None:
        """`step` without its checks, on the boards `rows` (None: all): an illegal action leaves a board
        undefined."""

    @abstractmethod
    def reset(self, rows: Rows | None = None) -> None:
        """Empty boards, Black to move; all where `rows` is None."""

    def reset_done(self) -> None:
        """`reset` of the boards whose game is done."""
        self.reset(np.flatnonzero(self.done))

    @abstractmethod
    def set_up(self, row: int, stones: NDArray[np.int8], to_play: int = BLACK) -> None:
        """Starts a game from a position, [rows, columns]. ValueError where a chain has no liberty."""

    @abstractmethod
    def resume(self, row: int, to_play: int) -> None:
        """The game goes on: passes are forgotten and `to_play` moves; what stood on the board is still
        remembered. A game that was cut off stays so."""

    def checked(self, stones: NDArray[np.int8], to_play: int) -> NDArray[np.int8]:
        """A position, int8 [points]. ValueError where it is none, or a chain has no liberty."""
        if stones.shape != (self.rules.rows, self.rules.columns) or not np.isin(stones, (-1, 0, 1)).all():
            raise ValueError(f"a position is {self.rules.rows} x {self.rules.columns} of -1, 0 and 1")
        if to_play not in (BLACK, WHITE):
            raise ValueError(f"to_play = {to_play}: 1 (black) or -1 (white) is needed")
        wanted = np.ascontiguousarray(stones, np.int8)
        dead = [point for point in np.flatnonzero(wanted) if not liberties(wanted, int(point))]
        if dead:
            raise ValueError(
                f"the chain at row {dead[0] // self.rules.columns + 1} from the top, column "
                f"{dead[0] % self.rules.columns + 1}, has no liberty"
            )
        return wanted.ravel()

    @abstractmethod
    def copy(self, source: Rows, target: Rows, other: Board | None = None) -> None:
        """Boards `source` of `other` (of the same kind and rules; None: of these) become boards `target`
        here, with their whole past."""

    @abstractmethod
    def same(self, rows: Rows, other: Board, row: int) -> NDArray[np.bool_]:
        """Which of the boards `rows` are what board `row` of `other` (of the same kind and rules) is, with
        their whole past: all that is remembered is compared. A copy played alike stays the same."""

    @abstractmethod
    def ownership(self, rows: Rows | None = None) -> NDArray[np.int8]:
        """Whose each point is as the stones stand, int8 [n, rows, columns]: 1, -1, or 0 for nobody's."""


def liberties(stones: NDArray[np.int8], point: int) -> int:
    """Of the chain that stands at `point`; `stones` [rows, columns]."""
    table, cells = neighbours(*stones.shape), np.append(stones.ravel(), np.int8(9))
    chain, free, waiting = {point}, set(), [point]
    while waiting:
        for near in table[waiting.pop()].tolist():
            if cells[near] == EMPTY:
                free.add(near)
            elif cells[near] == cells[point] and near not in chain:
                chain.add(near)
                waiting.append(near)
    return len(free)


@lru_cache(maxsize=64)
def neighbours(rows: int, columns: int) -> NDArray[np.uint16]:
    """The up to four neighbours of every point, uint16 [points + 1, 4]; `points` stands for the border."""
    points = np.arange(rows * columns).reshape(rows, columns)
    framed = np.pad(points, 1, constant_values=rows * columns)
    near = [framed[:-2, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:], framed[2:, 1:-1]]
    table = np.stack(near, -1).reshape(-1, 4)
    whole = np.vstack([table, np.full((1, 4), rows * columns)]).astype(np.uint16)
    whole.flags.writeable = False
    return whole


@lru_cache(maxsize=1)
def zobrist() -> NDArray[np.uint64]:
    """A number for each colour at each point, uint64 [2, 361]: a position is the XOR of its stones'
    (Zobrist 1970). Black's first. Two positions of a game share theirs with chance 2^-64."""
    drawn = np.random.Generator(np.random.Philox(key=20)).integers(1, 2**64, (2, 361), np.uint64)
    drawn.flags.writeable = False
    return drawn


def boards(rules: Rules, count: int = 1, kind: Kind = "numba") -> Board:
    """`count` empty boards. ValueError where it is below 1, and for no `kind` there is."""
    if count < 1:
        raise ValueError(f"count = {count}: at least 1 board is needed")
    if kind == "numba":
        from workloads.go.fast import NumbaBoard

        return NumbaBoard(rules, count)
    if kind == "numpy":
        from workloads.go.reference import NumpyBoard

        return NumpyBoard(rules, count)
    raise ValueError(f"kind = {kind!r}: numba or numpy is needed")
