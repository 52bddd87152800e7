"""A compiled board as one record, so that copying it is one copy of memory."""

from __future__ import annotations

import numpy as np

from workloads.go.board import LONGEST, Rules

BORDER = 2
NAME, AFTER = 0, 1
COUNT, SUM, SQUARES, SIZE = 0, 1, 2, 3
SIZES = {25: 256, 81: 512, 169: 1024, 361: 2048}
"""Points that a record has room for, and positions. Each kind of record is compiled anew: there are few."""


def layout(rules: Rules) -> np.dtype[np.void]:
    """The record of a board. Arrays over points have room for the next of `SIZES`."""
    room = next(size for size in SIZES if size >= rules.points)
    known = SIZES[room] if rules.cap < SIZES[room] else 1 << LONGEST.bit_length()
    return np.dtype(
        [
            ("hash", np.uint64),
            ("before", np.uint64),  # the position before the last action
            ("known", np.int64),
            ("plies", np.int32),
            ("last", np.int32),
            ("komi", np.float32),
            ("to_play", np.int8),
            ("passes", np.int8),
            ("over", np.bool_),
            ("truncated", np.bool_),
            ("many", np.int32, (2,)),  # how many of `taken` there are, black's and white's
            ("legal", np.uint8, (room + 1,)),
            ("fits", np.uint8, (2, room + 1)),
            ("cells", np.int8, (room + 1,)),
            ("was_taken", np.uint8, (2, room)),
            ("taken", np.uint16, (2, room)),
            ("stone", np.uint16, (room, 2)),  # NAME of its chain, and the stone AFTER it
            (
                "chain",
                np.int32,
                (room, 4),
            ),  # COUNT, SUM, SQUARES, SIZE: what is asked for together lies together
            ("loose", np.uint16, (room,)),  # during a move: last liberties of chains that left atari
            ("victims", np.uint16, (5,)),  # and the chains that were taken
            ("counts", np.int64, (2,)),  # how many of both
            ("sign", np.uint64, (room,)),
            ("positions", np.uint64, (known,)),
            ("slots", np.int16, (2 * known,)),  # a hash table of places in `positions`, from 1
        ],
        align=True,
    )
