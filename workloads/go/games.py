"""Recorded games as rows of a data set, and the positions that occurred in them.

A train row: `size` int, `komi` float, `setup` int8 [points] (1 black, -1 white), `actions` int16 [n],
`colours` int8 [n] (who played each), `winner` int (1, -1, 0 a draw, UNKNOWN), `margin` float (Black's points
less White's, NaN where it is not known).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.workload import Row
from workloads.go.board import BLACK, WHITE, Board, IllegalMove, Rules, boards
from workloads.go.layout import SIZES
from workloads.go.notation import vertex
from workloads.go.planes import PLANES, observe
from workloads.go.record import read, reason

UNKNOWN = 2
RESULT = re.compile(r"([bw])\+(\d+(?:\.\d+)?)?", re.IGNORECASE)


class Seen(NamedTuple):
    """Positions of one game, each before the move that was played."""

    planes: NDArray[np.float32]  # [k, PLANES, size, size]
    legal: NDArray[np.bool_]  # [k, actions]
    played: NDArray[np.int64]  # [k]
    side: NDArray[np.int8]  # [k], who played it


def row_of(content: bytes) -> Row:
    """A train row of an SGF file. ValueError for what is none, is empty, or holds an illegal move. Servers
    differ in what may be repeated: positions may come back, only not at once (simple ko)."""
    record = read(content)
    if not record.moves:
        raise ValueError("the record holds no moves")
    if len(record.moves) > longest(record.size):
        raise ValueError(f"{len(record.moves)} moves on a board of size {record.size}")
    winner, margin = outcome_of(record.result)
    setup = np.zeros(record.size**2, np.int8)
    setup[list(record.black)], setup[list(record.white)] = BLACK, WHITE
    row = {
        "size": record.size,
        "komi": record.komi,
        "setup": setup,
        "actions": np.array([action for _, action in record.moves], np.int16),
        "colours": np.array([colour for colour, _ in record.moves], np.int8),
        "winner": winner,
        "margin": margin,
    }
    positions([row], [np.empty(0, np.int64)])
    return row


def outcome_of(result: str) -> tuple[int, float]:
    """Winner and margin of SGF's RE: `B+3.5` is (1, 3.5), `W+R` (-1, NaN), `0` and `Draw` (0, 0)."""
    if result.strip().lower() in ("0", "draw", "jigo"):
        return 0, 0.0
    found = RESULT.match(result.strip())
    if found is None:
        return UNKNOWN, math.nan
    winner = BLACK if found[1].lower() == "b" else WHITE
    points = float(found[2]) if found[2] else math.nan
    return winner, winner * points


def longest(size: int) -> int:
    """Moves of a game on a board of that size; what a compiled board has room for."""
    return next(SIZES[room] for room in SIZES if room >= size**2) - 1


def record_rules(size: int) -> Rules:
    return Rules(size, size, 0.0, suicide=True, superko="simple", most_plies=longest(size))


def positions(rows: Sequence[Row], wanted: Sequence[NDArray[np.int64]]) -> list[Seen]:
    """The positions before the moves `wanted` (numbers from 0, ascending) of each game. The games of a size
    are played together. ValueError names an illegal move."""
    found: list[Seen | None] = [None] * len(rows)
    sizes: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        sizes[int(row["size"])].append(number)
    for size, games in sizes.items():
        board = boards(record_rules(size), len(games))
        for place, number in enumerate(games):
            setup = np.asarray(rows[number]["setup"], np.int8).reshape(size, size)
            board.set_up(place, setup, int(rows[number]["colours"][0]))
            board.komi[place] = rows[number]["komi"]
            found[number] = space(len(wanted[number]), board)
        replay([rows[n] for n in games], [wanted[n] for n in games], board, [found[n] for n in games])
    return [each for each in found if each is not None]


def space(count: int, board: Board) -> Seen:
    rules = board.rules
    return Seen(
        np.empty((count, PLANES, rules.rows, rules.columns), np.float32),
        np.empty((count, rules.actions), np.bool_),
        np.empty(count, np.int64),
        np.empty(count, np.int8),
    )


def replay(
    rows: Sequence[Row], wanted: Sequence[NDArray[np.int64]], board: Board, found: Sequence[Seen | None]
) -> None:
    """Plays one game on each board and keeps what stood before the wanted moves."""
    # all of a game with nothing wanted: it is only checked
    ends = [
        int(each[-1]) if len(each) else len(row["actions"]) for row, each in zip(rows, wanted, strict=True)
    ]
    places = [dict(zip(each.tolist(), range(len(each)), strict=True)) for each in wanted]
    for ply in range(max(ends, default=-1) + 1):
        actions = np.full(len(board), -1, np.int64)
        seen = []
        for game, row in enumerate(rows):
            if ply > ends[game] or ply >= len(row["actions"]):
                continue
            colour = int(row["colours"][ply])
            if colour != board.to_play[game] or board.over[game]:
                board.resume(game, colour)
            actions[game] = int(row["actions"][ply])
            if ply in places[game]:
                seen.append(game)
        if seen:
            planes = observe(board, seen)
            for number, game in enumerate(seen):
                one, place = found[game], places[game][ply]
                assert one is not None
                one.planes[place], one.legal[place] = planes[number], board.legal[game]
                one.played[place], one.side[place] = actions[game], board.to_play[game]
        try:
            board.step(actions)
        except IllegalMove as error:
            where = vertex(error.action, board.rules.rows, board.rules.columns)
            raise ValueError(f"move {ply + 1} ({where}) is illegal: {reason(error)}") from None
