"""The rules of one board, compiled by numba; a board is a record (layout.py).

Chains are circular lists of stones, each with the name of its chain, one of its points; the smaller is
merged into the larger. Of each chain the liberties are kept as count, sum and sum of squares, a point
counted once for each stone it touches: a chain is in atari, all of them the same point, exactly where
count * squares = sum * sum (Cauchy and Schwarz), and that point is sum / count. What a colour could play but
for superko (`fits`) changes only at points beside a change, and at the last liberty of a chain that enters
or leaves atari: nothing else is looked at again. A move at a point can only bring back an old position if a
stone of its colour has been taken from there before (`taken`): only then is the position after the move
looked up. A position is the XOR of its stones' numbers, and so is a chain (`sign`).

One file, because numba's cache of compiled code follows changes of one file only.
"""

from __future__ import annotations

import numpy as np

from workloads.go.compiling import compiled, inlined
from workloads.go.layout import AFTER, BORDER, COUNT, NAME, SIZE, SQUARES, SUM


@inlined
def in_atari(s, chain):
    total = np.int64(s.chain[chain, SUM])
    return np.int64(s.chain[chain, COUNT]) * np.int64(s.chain[chain, SQUARES]) == total * total


@inlined
def remember(s):
    """The position on the board becomes one that may not come back."""
    mask = s.slots.size - 1
    slot = np.int64(s.hash & np.uint64(mask))
    while s.slots[slot] != 0:
        slot = (slot + 1) & mask
    s.positions[s.known] = s.hash
    s.known += 1
    s.slots[slot] = s.known


@inlined
def stood(s, position):
    """Whether a position has been on the board."""
    mask = s.slots.size - 1
    slot = np.int64(position & np.uint64(mask))
    while s.slots[slot] != 0:
        if s.positions[s.slots[slot] - 1] == position:
            return True
        slot = (slot + 1) & mask
    return False


@inlined
def tally(s, chain, point, change):
    """A stone of the chain gains (1) or loses (-1) the liberty at a point, an int64."""
    s.chain[chain, COUNT] += change
    s.chain[chain, SUM] += change * point
    s.chain[chain, SQUARES] += change * point * point


@compiled
def refit(s, near, point, suicide):
    """Looks again at an empty point: which colours could play there, but for superko?"""
    black = white = suicide
    for d in range(4):
        other = near[point, d]
        cell = s.cells[other]
        if cell == 0:
            black = white = True
            break
        if cell != BORDER and in_atari(s, s.stone[other, NAME]) == (cell == 1):
            white = True  # takes a black chain, or joins a white one with another liberty
        elif cell != BORDER:
            black = True
    s.fits[0, point] = black
    s.fits[1, point] = white


@compiled
def take(s, near, chain, side):
    """Takes a chain of `side` (0 black, 1 white) off the board; what stands beside it gains liberties."""
    stone, size = np.uint16(chain), s.chain[chain, SIZE]
    for _ in range(size):
        s.cells[stone] = 0
        if not s.was_taken[side, stone]:
            s.was_taken[side, stone] = True
            s.taken[side, s.many[side]] = stone
            s.many[side] += 1
        stone = s.stone[stone, AFTER]
    for _ in range(size):
        for d in range(4):
            other = near[stone, d]
            if s.cells[other] == 1 or s.cells[other] == -1:
                gains = s.stone[other, NAME]
                if s.chain[gains, COUNT] > 0 and in_atari(s, gains):
                    only = s.chain[gains, SUM] // s.chain[gains, COUNT]
                    if only != stone:
                        s.loose[s.counts[0]] = only
                        s.counts[0] += 1
                tally(s, gains, np.int64(stone), 1)
        stone = s.stone[stone, AFTER]
    s.hash ^= s.sign[chain]
    s.victims[s.counts[1]] = chain
    s.counts[1] += 1


@compiled
def refit_taken(s, near, chain, suicide):
    """The points of a chain that was taken, and the empty ones beside them."""
    stone = np.uint16(chain)
    for _ in range(s.chain[chain, SIZE]):
        if s.cells[stone] == 0:
            refit(s, near, stone, suicide)
        for d in range(4):
            other = near[stone, d]
            if s.cells[other] == 0:
                refit(s, near, other, suicide)
        stone = s.stone[stone, AFTER]


@inlined
def join(s, one, other):
    """Two chains become one, under the name of the larger; its name."""
    if s.chain[one, SIZE] < s.chain[other, SIZE]:
        one, other = other, one
    stone = other
    for _ in range(s.chain[other, SIZE]):
        s.stone[stone, NAME] = one
        stone = s.stone[stone, AFTER]
    s.stone[one, AFTER], s.stone[other, AFTER] = s.stone[other, AFTER], s.stone[one, AFTER]
    for number in range(4):
        s.chain[one, number] += s.chain[other, number]
    s.sign[one] ^= s.sign[other]
    return one


@compiled
def put(s, near, numbers, side, point, suicide):
    """A stone on an empty point, with all that follows but the turn."""
    colour = 1 - 2 * side
    where = np.int64(point)
    point = np.uint16(point)
    s.cells[point] = colour
    s.chain[point] = 0
    for d in range(4):
        other = near[point, d]
        if s.cells[other] == 0:
            tally(s, point, np.int64(other), 1)
        elif s.cells[other] != BORDER:
            tally(s, s.stone[other, NAME], where, -1)
    s.stone[point, NAME] = s.stone[point, AFTER] = point
    s.chain[point, SIZE] = 1
    s.sign[point] = numbers[side, point]
    s.hash ^= numbers[side, point]
    s.fits[0, point] = s.fits[1, point] = False
    s.counts[0] = s.counts[1] = 0
    for d in range(4):
        other = near[point, d]
        if s.cells[other] == -colour and s.chain[s.stone[other, NAME], COUNT] == 0:
            take(s, near, s.stone[other, NAME], 1 - side)
    chain = point
    for d in range(4):
        other = near[point, d]
        if s.cells[other] == colour and s.stone[other, NAME] != chain:
            chain = join(s, chain, s.stone[other, NAME])
    if s.chain[chain, COUNT] == 0:
        take(s, near, chain, side)
    elif in_atari(s, chain):
        refit(s, near, np.uint16(s.chain[chain, SUM] // s.chain[chain, COUNT]), suicide)
    for k in range(s.counts[1]):
        refit_taken(s, near, s.victims[k], suicide)
    for k in range(s.counts[0]):
        if s.cells[s.loose[k]] == 0:
            refit(s, near, s.loose[k], suicide)
    for d in range(4):
        other = near[point, d]
        if s.cells[other] == 0:
            refit(s, near, other, suicide)
        elif s.cells[other] != BORDER and in_atari(s, s.stone[other, NAME]):
            chain = s.stone[other, NAME]
            refit(s, near, np.uint16(s.chain[chain, SUM] // s.chain[chain, COUNT]), suicide)


@compiled
def after_move(s, near, numbers, side, point):
    """The position that a move of `side` makes."""
    lost = 2 * side - 1  # the colour of the chains that vanish, all in atari: the enemy's
    breathes = False
    for d in range(4):
        other = near[point, d]
        cell = s.cells[other]
        if cell == 0 or (cell != BORDER and in_atari(s, s.stone[other, NAME]) == (cell == lost)):
            breathes = True
    position = s.hash ^ numbers[side, point] if breathes else s.hash
    lost = lost if breathes else -lost
    for d in range(4):
        other = near[point, d]
        if s.cells[other] != lost or not in_atari(s, s.stone[other, NAME]):
            continue
        new = True
        for e in range(d):
            if s.cells[near[point, e]] == lost and s.stone[near[point, e], NAME] == s.stone[other, NAME]:
                new = False
        if new:
            position ^= s.sign[s.stone[other, NAME]]
    return position


@compiled
def allow(s, near, numbers, points, suicide, simple):
    """Writes what the side to move may do."""
    if s.over or s.truncated:
        s.legal[:] = False
        return
    side = 0 if s.to_play == 1 else 1
    for point in range(points):
        s.legal[point] = s.fits[side, point]
    s.legal[points] = True
    if suicide:  # which may bring back a position without a stone on the point
        for point in range(points):
            if s.legal[point]:
                position = after_move(s, near, numbers, side, point)
                s.legal[point] = position != s.before if simple else not stood(s, position)
        return
    for k in range(s.many[side]):
        point = s.taken[side, k]
        if s.fits[side, point]:
            position = after_move(s, near, numbers, side, point)
            s.legal[point] = position != s.before if simple else not stood(s, position)


@compiled
def play(s, near, numbers, action, points, cap, suicide, simple):
    """One legal action."""
    s.before = s.hash
    s.last = action
    s.plies += 1
    if action == points:
        s.passes += 1
        s.over = s.passes >= 2
    else:
        s.passes = 0
        put(s, near, numbers, 0 if s.to_play == 1 else 1, action, suicide)
        remember(s)
    s.to_play = -s.to_play
    s.truncated = not s.over and s.plies >= cap
    allow(s, near, numbers, points, suicide, simple)


@compiled
def play_all(state, rows, near, numbers, actions, points, cap, suicide, simple):
    """An action on each of the boards `rows`, -1 = none."""
    for k in range(len(rows)):
        if actions[k] >= 0:
            play(state[rows[k]], near, numbers, actions[k], points, cap, suicide, simple)


@compiled
def start(state, near, numbers, stones, to_play, points, suicide, simple):
    """A game from a position, int8 [points]; every chain in it has a liberty."""
    s = state[0]
    s.hash = np.uint64(0)
    s.known = 0
    s.plies, s.last, s.to_play, s.passes = 0, -1, to_play, 0
    s.over = s.truncated = False
    s.many[0] = s.many[1] = 0
    s.slots[:] = 0
    s.was_taken[:] = False
    s.cells[:points] = 0
    s.cells[points] = BORDER
    s.fits[:] = suicide or points > 1
    for point in range(points):
        if stones[point] != 0:
            put(s, near, numbers, 0 if stones[point] == 1 else 1, point, suicide)
    s.before = s.hash
    remember(s)
    allow(s, near, numbers, points, suicide, simple)


@compiled
def resume(state, near, numbers, to_play, points, suicide, simple):
    s = state[0]
    s.to_play, s.passes, s.over = to_play, 0, False
    s.before = s.hash
    allow(s, near, numbers, points, suicide, simple)
