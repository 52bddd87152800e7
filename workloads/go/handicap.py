"""Where handicap stones stand (GTP 2, section 4.1.1)."""

from __future__ import annotations


def fixed(size: int, stones: int) -> tuple[int, ...]:
    """The points of 2 to 9 handicap stones. ValueError for a number that the board has no places for."""
    most = most_fixed(size)
    if not 2 <= stones <= most:
        allowed = f"2 to {most} are possible" if most else "there are none"
        raise ValueError(f"invalid number of stones: {stones}; on a board of {size} {allowed}")
    near = 3 if size > 11 else 2  # as GNU Go, its reference implementation
    far, middle = size - 1 - near, size // 2
    corners = [(far, near), (near, far), (near, near), (far, far)]  # row from the top, column
    sides = [(middle, near), (middle, far), (far, middle), (near, middle)]
    chosen = corners[:stones] + sides[: (stones - 4) // 2 * 2 if stones > 4 else 0]
    if stones > 4 and stones % 2:
        chosen.append((middle, middle))
    return tuple(sorted(row * size + column for row, column in chosen))


def most_fixed(size: int) -> int:
    if size < 7:
        return 0
    return 9 if size % 2 and size > 7 else 4


def free(size: int, stones: int) -> tuple[int, ...]:
    """2 to size² - 1 stones: as many of the fixed ones as there are, and then what is next to the middle."""
    if not 2 <= stones < size**2:
        raise ValueError(f"invalid number of stones: {stones}; 2 to {size**2 - 1} are possible")
    most = min(stones, most_fixed(size))
    chosen = list(fixed(size, most)) if most else []
    middle = (size - 1) / 2
    rest = [point for point in range(size**2) if point not in chosen]
    rest.sort(key=lambda point: (abs(point // size - middle) + abs(point % size - middle), point))
    return tuple(sorted([*chosen, *rest[: stones - most]]))
