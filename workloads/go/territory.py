"""Whose the points of compiled boards are."""

from __future__ import annotations

import numpy as np

from workloads.go.kernel import compiled


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
