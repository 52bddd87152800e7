"""A board as a picture and as text."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

CELL = 24  # pixels from line to line
WOOD, LINE, MARK = (222, 184, 135), (60, 40, 20), (200, 40, 40)
STONE = {1: (25, 25, 25), -1: (245, 245, 245)}


def picture(stones: NDArray[np.int8], last: int = -1) -> NDArray[np.uint8]:
    """uint8 [CELL * rows, CELL * columns, 3]; each point in the middle of its cell. The stone of the action
    `last` bears a mark; a pass, or what has been taken since, has none to bear it."""
    rows, columns = stones.shape
    high, wide = CELL * rows, CELL * columns
    image = np.full((high, wide, 3), WOOD, np.uint8)
    half = CELL // 2
    image[half::CELL, half : wide - half + 1] = LINE
    image[half : high - half + 1, half::CELL] = LINE
    from_middle = np.arange(CELL) - half
    distance = np.hypot(from_middle[:, None], from_middle[None, :])
    for row, column in np.argwhere(stones != 0).tolist():
        cell = image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        cell[distance < 0.46 * CELL] = STONE[int(stones[row, column])]
        if row * columns + column == last:
            cell[distance < 0.15 * CELL] = MARK
    return image


def png(image: NDArray[np.uint8]) -> bytes:
    """PNG of uint8 [high, wide, 3]."""
    from PIL import Image  # the environments do without

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def text(stones: NDArray[np.int8], to_play: int) -> str:
    """A line for each row, X black, O white, and who is to play."""
    lines = [" ".join("O.X"[stone + 1] for stone in row) for row in stones.tolist()]
    return "\n".join([*lines, f"{'X' if to_play == 1 else 'O'} to play"])
