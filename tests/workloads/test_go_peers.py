"""The Go boards against each other, the naive board and GNU Go, on random games."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.goboards import FIELDS, KINDS, Kind, pick
from tests.gogame import NaiveBoard
from workloads.go.board import Board, Rules, boards, liberties, neighbours
from workloads.go.notation import NAMES, action_of, vertex
from workloads.go.program import Program

SWITCHES = tuple(itertools.product((False, True), ("positional", "simple")))
FEW = {  # rows, columns: games
    **{(1, 1): 4, (1, 2): 4, (1, 4): 4, (2, 2): 4, (2, 3): 4, (3, 3): 4, (4, 2): 4, (3, 5): 4, (4, 4): 4},
    **{(5, 5): 2, (6, 4): 2, (7, 7): 1},
}
MANY = {  # rows, columns: games, of those also played on the naive board
    **{(1, 1): (20, 20), (1, 2): (30, 30), (1, 4): (100, 100), (2, 2): (100, 100), (2, 3): (200, 200)},
    **{(3, 3): (300, 300), (4, 2): (300, 300), (3, 5): (200, 100), (4, 4): (200, 100), (5, 5): (200, 25)},
    **{(6, 4): (150, 25), (7, 7): (100, 5), (9, 9): (500, 1), (13, 13): (90, 0), (19, 19): (10, 0)},
}

each_switch = pytest.mark.parametrize(("suicide", "superko"), SWITCHES)


# ---------------------------------------------------------------- among ourselves


def compare(rules: Rules, games: int, naive: int, seed: int, every: int = 1) -> None:
    """Plays random games to their end on both kinds of boards, the first `naive` also on the naive one, whose
    moves are looked at `every` so many plies."""
    one, *others = (boards(rules, games, kind) for kind in KINDS)
    plain = [NaiveBoard(rules) for _ in range(naive)]
    dice = np.random.default_rng(seed)
    for ply in range(rules.cap + 1):
        owned, score, where = one.ownership(), one.score(), (rules, seed, ply)
        for other in others:
            for name in FIELDS:
                assert (getattr(one, name) == getattr(other, name)).all(), (name, where)
            assert (owned == other.ownership()).all() and (score == other.score()).all(), where
        for row, board in enumerate(plain):
            if board.plies == ply and (ply % every == 0 or one.done[row]):
                assert board.position == tuple(one.stones[row].ravel().tolist()), (row, where)
                assert (board.legal() == one.legal[row]).all(), (row, where)
                assert board.ownership() == owned[row].ravel().tolist(), (row, where)
                assert (board.to_play, board.passes >= 2) == (one.to_play[row], one.over[row]), (row, where)
        if one.done.all():
            return
        actions = pick(one, dice, passing=0.2)
        for batch in (one, *others):
            batch.step(actions)
        for board, action in zip(plain, actions.tolist(), strict=False):
            if action >= 0:
                board.play(action)
    raise AssertionError(f"games under {rules} went on beyond the cap")


@each_switch
def test_all_kinds_of_boards_play_alike(suicide: bool, superko: str) -> None:
    for number, ((rows, columns), games) in enumerate(FEW.items()):
        points = rows * columns
        rules = Rules(rows, columns, 7.0, suicide, superko, 5 * points + 10)  # type: ignore[arg-type]
        compare(rules, games, games, number, every=1 if points <= 25 else 4)


@pytest.mark.soak
@each_switch
@pytest.mark.parametrize("shape", MANY)
def test_10_000_games_are_played_alike(shape: tuple[int, int], suicide: bool, superko: str) -> None:
    assert len(SWITCHES) * sum(games for games, _ in MANY.values()) >= 10_000
    games, naive = MANY[shape]
    most = 5 * shape[0] * shape[1] + 10
    compare(Rules(*shape, 7.0, suicide, superko, most), games, naive, 100)  # type: ignore[arg-type]


# ---------------------------------------------------------------- GNU Go


@pytest.fixture(scope="module")
def gnugo() -> Iterator[Program]:
    found = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
    if not found:
        pytest.skip("GNU Go is not installed (Debian: apt install gnugo)")
    rules = ["--chinese-rules", "--positional-superko", "--forbid-suicide"]
    with Program([found, "--mode", "gtp", "--level", "1", *rules]) as program:
        yield program


def eyes(board: Board) -> NDArray[np.bool_]:
    """The empty points of the first board whose neighbours all are of the side to move and none in atari,
    [points]."""
    cells = np.append(board.stones[0].ravel(), board.to_play[0])  # the border hems in as well as stones
    near = neighbours(board.rules.rows, board.rules.columns)[:-1]
    hemmed = (cells[near] == board.to_play[0]).all(1) & (cells[:-1] == 0)
    for point in np.flatnonzero(hemmed):
        around = [int(other) for other in near[point] if other < board.rules.points]
        hemmed[point] = all(liberties(board.stones[0], other) > 1 for other in around)
    return np.asarray(hemmed)


def check(gnugo: Program, size: int, kind: Kind, seed: int, every: int) -> None:
    """A random game in which nobody fills an eye. GNU Go takes dead stones off before it counts: its area is
    ours where each chain has two liberties at the end, which then are two eyes."""
    board, dice = boards(Rules(size, size, most_plies=250), 1, kind), np.random.default_rng(seed)
    for command in (f"boardsize {size}", "clear_board", "komi 0"):
        gnugo.ask(command)
    while not board.done[0]:
        colour = NAMES[int(board.to_play[0])]
        if board.plies[0] % every == 0:
            told = {action_of(name, size, size) for name in gnugo.ask(f"all_legal {colour}").split()}
            assert told == set(np.flatnonzero(board.legal[0, :-1]).tolist()), (size, seed, board.plies[0])
        good = np.flatnonzero(board.legal[0, :-1] & ~eyes(board))
        action = int(dice.choice(good)) if len(good) else size * size
        gnugo.ask(f"play {colour} {vertex(action, size, size)}")
        board.step([action])
    assert board.over[0], (size, seed)
    for point in np.flatnonzero(board.stones[0]).tolist():
        assert liberties(board.stones[0], point) > 1, (
            f"seed {seed}: superko keeps a stone in atari; take another"
        )
    winner, _, points = gnugo.ask("final_score").partition("+")
    area = {"B": 1, "W": -1, "0": 0}[winner] * float(points or 0)
    assert board.score()[0] == area, (size, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_gnu_go_agrees(gnugo: Program, kind: Kind) -> None:
    for seed, size in enumerate((5, 5, 6, 7, 8, 9)):
        check(gnugo, size, kind, seed, every=3)


@pytest.mark.soak
@pytest.mark.parametrize("size", [5, 6, 7, 8, 9])
def test_gnu_go_agrees_in_200_games(gnugo: Program, size: int) -> None:
    for seed in range(40):
        check(gnugo, size, KINDS[seed % len(KINDS)], 1000 + seed, every=1)
