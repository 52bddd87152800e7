"""How people write Go: vertices such as D4, and a board drawn in letters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workloads.go.board import BLACK, WHITE

LETTERS = "ABCDEFGHJKLMNOPQRST"  # columns from the left; there is no I
STONES = {".": 0, "X": BLACK, "O": WHITE}
SIGNS = {stone: sign for sign, stone in STONES.items()}
COLOURS = {"b": BLACK, "black": BLACK, "w": WHITE, "white": WHITE}
NAMES = {BLACK: "black", WHITE: "white"}


def vertex(action: int, rows: int, columns: int) -> str:
    """`D4` of an action, `pass` of the last one; row 1 is the lowest. ValueError outside the board."""
    if not 0 <= action <= rows * columns:
        raise ValueError(f"action {action}: a {rows} x {columns} board has 0 to {rows * columns}")
    if action == rows * columns:
        return "pass"
    row, column = divmod(action, columns)
    return f"{LETTERS[column]}{rows - row}"


def action_of(text: str, rows: int, columns: int) -> int:
    """The action that a vertex names, in letters of either case. ValueError for what names none."""
    word = text.strip().upper()
    if word == "PASS":
        return rows * columns
    column, number = LETTERS.find(word[:1]), word[1:]
    if word and 0 <= column < columns and number.isascii() and number.isdigit() and len(number) < 3:
        row = rows - int(number)
        if 0 <= row < rows:
            return row * columns + column
    raise ValueError(
        f"vertex {brief(text)!r}: A1 to {vertex(columns - 1, rows, columns)} and pass are possible"
    )


def colour_of(text: str) -> int:
    """1 of b or black, -1 of w or white. ValueError for anything else."""
    colour = COLOURS.get(text.lower())
    if colour is None:
        raise ValueError(f"colour {brief(text)!r}: black or white (b, w) are possible")
    return colour


def diagram(stones: NDArray[np.int8]) -> str:
    """int8 [rows, columns] drawn with X for Black, O for White, and coordinates on all sides."""
    rows, columns = stones.shape
    head = "   " + " ".join(LETTERS[:columns])
    lines = [head]
    for row, cells in enumerate(stones.tolist()):
        number = rows - row
        lines.append(f"{number:2} {' '.join(SIGNS[cell] for cell in cells)} {number:2}")
    return "\n".join([*lines, head])


def parse(text: str) -> NDArray[np.int8]:
    """Stones int8 [rows, columns] of a drawing: a line for each row, with or without blanks and coordinates.
    ValueError for other signs, rows of different lengths, or a size that no board has."""
    if len(text) > 10_000:
        raise ValueError(f"a diagram of {len(text)} characters; 10000 are allowed")
    found: list[list[int]] = []
    for line in text.splitlines():
        signs = "".join(line.split()).strip("0123456789")
        if not signs or signs == LETTERS[: len(signs)]:
            continue
        wrong = next((sign for sign in signs if sign not in STONES), None)
        if wrong is not None:
            raise ValueError(f"row {len(found) + 1} of the diagram holds {wrong!r}; . X and O are possible")
        found.append([STONES[sign] for sign in signs])
        if len(found[0]) != len(signs):
            raise ValueError(f"row {len(found)} of the diagram has {len(signs)} points, not {len(found[0])}")
    if not found or max(len(found), len(found[0])) > 19:
        size = f"{len(found)} x {len(found[0]) if found else 0}"
        raise ValueError(f"a diagram of {size}; a board has 1 to 19 rows and columns")
    return np.array(found, np.int8)


def brief(text: str, most: int = 40) -> str:
    """On one line, and at most so many characters of it, for an error."""
    start = text[: 4 * most]
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in start).split())
    return line if len(line) <= most and start == text else f"{line[: most - 3]}..."
