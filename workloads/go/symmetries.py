"""The symmetries of a board: 8 of a square one, 4 of another."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def symmetries(rows: int, columns: int) -> NDArray[np.int64]:
    """Actions as each symmetry maps them, int64 [S, actions]: `[s, a]` is where `a` goes, the pass stays. The
    first changes nothing."""
    places = np.arange(rows * columns).reshape(rows, columns)
    turned = [np.rot90(places, k) for k in range(4)] if rows == columns else [places, np.rot90(places, 2)]
    # an arrangement says which point comes to each place; its inverse, where each point goes
    arranged = [each.ravel() for one in turned for each in (one, one[:, ::-1])]
    moved = np.stack([np.append(np.argsort(each), rows * columns) for each in arranged])
    moved.flags.writeable = False
    return moved


def turn(planes: NDArray[np.float32], symmetry: NDArray[np.int64]) -> NDArray[np.float32]:
    """Planes [n, C, rows, columns] of boards turned by one of `symmetries`."""
    flat = planes.reshape(*planes.shape[:2], -1)
    turned = np.empty_like(flat)
    turned[:, :, symmetry[:-1]] = flat
    return turned.reshape(planes.shape)
