"""What is asked of many compiled boards at once beside their moves."""

from __future__ import annotations

import numpy as np

from workloads.go.compiling import compiled


@compiled
def own_all(state, rows, near, owned):
    """Whose each point is, into int8 [N, points]: stones, and regions that reach one colour only."""
    points = owned.shape[1]
    region = np.empty(points, np.int16)
    for k in range(len(rows)):
        s = state[rows[k]]
        own = owned[k]
        own[:] = s.cells[:points]
        for first in range(points):
            if own[first] != 0:
                continue
            region[0], size, looked, reached = first, 1, 0, 0
            own[first] = 4  # being looked at
            while looked < size:
                for d in range(4):
                    other = near[region[looked], d]
                    cell = s.cells[other]
                    if cell == 1:
                        reached |= 1
                    elif cell == -1:
                        reached |= 2
                    elif cell == 0 and own[other] == 0:
                        own[other] = 4
                        region[size] = other
                        size += 1
                looked += 1
            owner = 1 if reached == 1 else -1 if reached == 2 else 8
            for member in range(size):
                own[region[member]] = owner
        for point in range(points):
            if own[point] == 8:
                own[point] = 0


@compiled
def first_illegal(state, actions, points):
    """The first board whose action may not be played, -1 = none."""
    for board in range(len(state)):
        action = actions[board]
        if action != -1 and not (0 <= action <= points and state[board].legal[action]):
            return board
    return -1


@compiled
def reset_done(state, copies, empty):
    """A new game on every board whose game is done. `copies`: the same boards, uint64 [N, words]."""
    for board in range(len(state)):
        if state[board].over or state[board].truncated:
            copies[board] = empty
