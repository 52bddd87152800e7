"""The Go boards against what is known: counts of positions and games, recorded games with every verdict.

Counts: J. Tromp, G. Farnebäck, "Combinatorics of Go" (2006, revised 2016).
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.goboards import KINDS, Kind, draw, game, play
from workloads.go.board import BLACK, WHITE, Board, Rows, Rules, boards
from workloads.go.notation import COLOURS, action_of, vertex

POSITIONS = {(1, 1): 1, (1, 2): 5, (1, 3): 15, (1, 4): 41, (2, 2): 57, (2, 3): 489, (3, 3): 12_675}

each_kind = pytest.mark.parametrize("kind", KINDS)


# ---------------------------------------------------------------- positions


@each_kind
@pytest.mark.parametrize("shape", [shape for shape in POSITIONS if shape != (3, 3)])
def test_as_many_positions_can_be_set_up_as_there_are(shape: tuple[int, int], kind: Kind) -> None:
    board = boards(Rules(*shape), 1, kind)
    accepted = 0
    for cells in itertools.product((0, 1, -1), repeat=board.rules.points):
        try:
            board.set_up(0, np.array(cells, np.int8).reshape(shape))
        except ValueError:
            continue
        assert board.stones[0].ravel().tolist() == list(cells)
        accepted += 1
    assert accepted == POSITIONS[shape]


def together(parts: list[tuple[Board, Rows]], kind: Kind) -> Board:
    """Copies of some rows of some boards, as one batch."""
    ends = np.cumsum([0, *(len(rows) for _, rows in parts)])
    batch = boards(parts[0][0].rules, int(ends[-1]), kind)
    for (board, rows), start, end in zip(parts, ends[:-1], ends[1:], strict=True):
        batch.copy(rows, np.arange(start, end), board)
    return batch


def positions(rules: Rules, kind: Kind, most: int = 1 << 12) -> int:
    """How many legal positions there are. Each is built once, stone by stone in the points' order: it is
    legal exactly if each can be put and none takes any, for what is left of a legal position when stones are
    lifted is legal, too. At most `most` boards for each number of stones."""
    points = rules.points
    levels = [boards(rules, min(most, 3**points), kind) for _ in range(points + 1)]

    def grown(rows: NDArray[np.int64], last: NDArray[np.int64], stones: int) -> int:
        """The positions of `levels[stones][rows]`, last stone at `last`, and all that grow from them."""
        total, (base, here) = len(rows), levels[stones : stones + 2]
        at, point = np.nonzero(np.arange(points) > last[:, None])
        wanted = np.repeat(rows[at], 2), np.repeat(point, 2), np.tile([BLACK, WHITE], len(at))
        for start in range(0, 2 * len(at), len(here)):
            source, target, colour = (part[start : start + len(here)] for part in wanted)
            new, actions = np.arange(len(source)), np.full(len(here), -1)
            here.copy(source, new, base)
            actions[new] = np.where(here.to_play[new] == colour, -1, points)
            here.step(actions)
            may = here.legal[new, target]
            actions[new] = np.where(may, target, -1)
            here.step(actions)
            whole = np.flatnonzero(may & ((here.stones[new] != 0).sum((1, 2)) == stones + 1))
            if len(whole):
                total += grown(whole, target[whole], stones + 1)
        return total

    return grown(np.array([0]), np.array([-1]), 0)


@each_kind
@pytest.mark.parametrize("shape", POSITIONS)
def test_as_many_positions_can_be_built_as_there_are(shape: tuple[int, int], kind: Kind) -> None:
    assert positions(Rules(*shape, most_plies=50), kind) == POSITIONS[shape]


@pytest.mark.soak
def test_there_are_24_million_positions_of_4_by_4() -> None:
    assert positions(Rules(4, 4, most_plies=50), "numba") == 24_318_165


# ---------------------------------------------------------------- games


@each_kind
@pytest.mark.parametrize(("columns", "games"), [(1, 1), (2, 9), (3, 907)])
def test_as_many_games_can_be_played_as_there_are(columns: int, games: int, kind: Kind) -> None:
    """Sequences of positions of which none comes twice, the empty game among them, suicide allowed. Either
    colour may move at any time: a pass is free. No move follows two."""
    board = boards(Rules(1, columns, suicide=True, most_plies=100), 1, kind)
    played = 1
    while True:
        passed = together([(board, np.arange(len(board)))], kind)
        passed.step(np.full(len(board), columns))
        moves = [np.nonzero(side.legal[:, :columns]) for side in (board, passed)]
        if not sum(len(rows) for rows, _ in moves):
            break
        board = together([(board, moves[0][0]), (passed, moves[1][0])], kind)
        board.step(np.concatenate([points for _, points in moves]))
        played += len(board)
    assert played == games


# ---------------------------------------------------------------- recorded games


@pytest.fixture(scope="module")
def cases(real_data: Path) -> dict[str, Any]:
    """Games and positions with the verdicts of other programs."""
    found: dict[str, Any] = json.loads((real_data / "go" / "rules" / "cases.json").read_text())
    return found


def illegal(board: Board, row: int) -> dict[str, str | None]:
    """The empty points where the side to move may not play, and why."""
    size, columns = board.rules.rows, board.rules.columns
    points = np.flatnonzero((board.stones[row].ravel() == 0) & ~board.legal[row, :-1]).tolist()
    return {vertex(point, size, columns): board.why(row, point) for point in points}


@pytest.mark.real_data
@each_kind
def test_tactical_positions_have_their_verdicts(cases: dict[str, Any], kind: Kind) -> None:
    assert len(cases["tactical"]) >= 16
    for case in cases["tactical"]:
        size, to_play = case["size"], COLOURS[case["to_move"]]
        board, _ = game(kind, " ".join(case["diagram"]), to_play, suicide=case["suicide_allowed"])
        play(board, *(action_of(move, size, size) for move in case["moves"]))
        assert board.to_play[0] == COLOURS[case["then_to_move"]], case["id"]
        assert illegal(board, 0) == case["illegal"], case["id"]
        for name in case["must_be_legal"]:
            assert board.legal[0, action_of(name, size, size)], (case["id"], name)
        assert board.score()[0] == case["area_black_minus_white_if_scored_now"], case["id"]


@pytest.mark.real_data
@each_kind
def test_recorded_games_have_their_verdicts(cases: dict[str, Any], kind: Kind) -> None:
    """Every move is legal; at the samples, every empty point that is not has its reason; and the end."""
    alike: dict[tuple[int, bool], list[dict[str, Any]]] = {}
    for one in cases["games"]:
        alike.setdefault((one["size"], one["suicide_allowed"]), []).append(one)
    assert sum(map(len, alike.values())) >= 298
    for (size, suicide), games in alike.items():
        moves = [[action_of(move, size, size) for move in one["moves"].split()] for one in games]
        samples = [{sample["ply"]: sample for sample in one["samples"]} for one in games]
        longest = max(map(len, moves))
        board = boards(Rules(size, size, suicide=suicide, most_plies=longest + 1), len(games), kind)
        for ply in range(longest + 1):
            counts = board.legal.sum(1).tolist()
            for row, one in enumerate(games):
                if ply in samples[row]:
                    sample = samples[row][ply]
                    said = board.to_play[row], counts[row], illegal(board, row)
                    told = COLOURS[sample["to"]], sample["n_legal"], sample["illegal"]
                    assert said == told, (one["id"], ply)
                if ply < len(one.get("legal_counts_incl_pass", ())):
                    assert counts[row] == one["legal_counts_incl_pass"][ply], (one["id"], ply)
            board.step([line[ply] if ply < len(line) else -1 for line in moves])
        score = board.score()
        for row, one in enumerate(games):
            assert draw(board.stones[row]) == one["final_board"].replace("/", " "), one["id"]
            assert score[row] == one["area_black_minus_white"], one["id"]
            assert board.over[row] == one["moves"].endswith("pass pass"), one["id"]
