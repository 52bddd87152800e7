"""What a player, or a network, sees of boards: planes from the side of one who is to move."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import BLACK, Board, Rows, neighbours
from workloads.go.compiling import compiled

Planes = NDArray[np.float32]

MEANING = (
    "own stones",
    "enemy stones",
    "stones of chains with 1 liberty, of both colours",
    "with 2",
    "with 3",
    "the last move",
    "everywhere: the last action was a pass",
    "empty points that may not be played (ko, suicide)",
    "everywhere: on the board, which a convolution's border is not",
    "everywhere: the viewer is black",
    "everywhere: the komi that the viewer gets, negative for black, in units of KOMI",
)
PLANES = len(MEANING)
KOMI = 20.0  # points; the network's inputs are best about 1


def observe(board: Board, rows: Rows | None = None, view: NDArray[np.int8] | None = None) -> Planes:
    """Planes of the boards `rows` (None: all), float32 [n, PLANES, rows, columns], as MEANING says.

    `view` int8 [n], 1 or -1: through whose eyes; None: the side to move's. All are 0 or 1 but the last. On a
    board that is done nothing may be played, so that plane 7 shows every empty point.
    """
    chosen: Any = slice(None) if rows is None else np.asarray(rows, np.int64)
    stones, last, legal = board.stones[chosen], board.last[chosen], board.legal[chosen]
    side = board.to_play[chosen] if view is None else view
    komi = board.komi[chosen]
    count, points = len(stones), board.rules.points
    own = stones.reshape(count, points) * side[:, None]
    free = all_liberties(own, neighbours(board.rules.rows, board.rules.columns))
    planes = np.zeros((count, PLANES, points), np.float32)
    planes[:, 0] = own == 1
    planes[:, 1] = own == -1
    for few in (1, 2, 3):
        planes[:, 1 + few] = free == few
    moved = np.flatnonzero((last >= 0) & (last < points))
    planes[moved, 5, last[moved]] = 1
    planes[:, 6] = (last == points)[:, None]
    planes[:, 7] = (own == 0) & ~legal[:, :points]
    planes[:, 8] = 1
    planes[:, 9] = (side == BLACK)[:, None]
    planes[:, 10] = (side * -komi / np.float32(KOMI))[:, None]
    return planes.reshape(count, PLANES, board.rules.rows, board.rules.columns)


@compiled
def all_liberties(stones: NDArray[np.int8], near: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Of the chain at each point, at most 4, uint8 [n, P]; 0 at empty points. `stones` int8 [n, P], `near` as
    `neighbours` gives it."""
    count, points = stones.shape
    found = np.zeros((count, points), np.uint8)
    chain = np.empty(points, np.int32)
    seen = np.zeros(points + 1, np.int32)  # the last chain that met this point
    for board in range(count):
        seen[:] = 0
        for first in range(points):
            if stones[board, first] == 0 or found[board, first]:
                continue
            name = first + 1
            chain[0], seen[first] = first, name
            size, done, free = 1, 0, 0
            while done < size:
                for place in range(4):
                    other = near[chain[done], place]
                    if other == points or seen[other] == name:
                        continue
                    if stones[board, other] == 0:
                        seen[other] = name
                        free += 1
                    elif stones[board, other] == stones[board, first]:
                        seen[other] = name
                        chain[size] = other
                        size += 1
                done += 1
            for stone in range(size):
                found[board, chain[stone]] = min(free, 4)
    return found
