"""How games of a match begin, and what komi makes such a beginning fair."""

from __future__ import annotations

import numpy as np

from workloads.go.board import Kind, Rules, boards
from workloads.go.match import gnugo, play_game
from workloads.go.program import Program, ProgramError, ProgramPlayer
from workloads.go.symmetries import symmetries

PLIES = 4
TRIES = 100  # for each opening wanted


def openings(rules: Rules, count: int, seed: int = 0, kind: Kind = "numba") -> list[tuple[int, ...]]:
    """Openings of 4 random legal plies, no passes; no two lead to positions that a symmetry of the board
    makes the same. ValueError where so many are not found."""
    if not 0 <= count <= 10_000:
        raise ValueError(f"count = {count}: 0 to 10000 openings are possible")
    rng = np.random.default_rng(seed)
    board = boards(rules, 1, kind)
    found: dict[bytes, tuple[int, ...]] = {}
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        board.reset()
        moves: list[int] = []
        for _ in range(PLIES):
            legal = np.flatnonzero(board.legal[0, :-1])
            if len(legal):
                moves.append(int(rng.choice(legal)))
                board.step(moves[-1:])
        if len(moves) == PLIES:
            stones, ways = board.stones[0].ravel(), symmetries(rules.rows, rules.columns)[:, :-1]
            found.setdefault(min(stones[way].tobytes() for way in ways), tuple(moves))
    if len(found) < count:
        size = f"{rules.rows} x {rules.columns}"
        raise ValueError(f"{count} openings: {len(found)} different ones were found on a board of {size}")
    return list(found.values())


def fair_komi(
    opening: tuple[int, ...],
    rules: Rules,
    plays: int = 9,
    level: int = 8,
    seed: int = 0,
    timeout: float = 60.0,
    kind: Kind = "numba",
) -> tuple[float, float]:
    """The median of Black's area minus White's at the end of GNU Go's games against itself, played on from
    the opening with the seeds `seed`, `seed` + 1, …; and the spread, the largest minus the least.
    ProgramError where a game has no end."""
    if not 0 < plays <= 1_000:
        raise ValueError(f"plays = {plays}: 1 to 1000 are possible")
    areas = []
    for number in range(plays):
        with Program([*gnugo(level, seed + number), "--never-resign"], timeout) as program:
            player = ProgramPlayer(program)
            game = play_game(player, player, rules, opening, seed, kind)
        if game.reason != "both passed":
            raise ProgramError(f"{program.name} with seed {seed + number}: {game.reason}, so no score")
        areas.append(game.points + rules.komi)
    return float(np.median(areas)), float(max(areas) - min(areas))
