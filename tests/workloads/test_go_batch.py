"""The Go boards: many together, what is refused, and how they are started, copied and resumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.goboards import KINDS, Kind, draw, game, pick, play, state, stones
from workloads.go.board import BLACK, WHITE, Board, IllegalMove, Reason, Rules, boards

KO = ".XO.c XOaO. .XO.. ..... d...."  # Black takes at a; c and d are elsewhere

pytestmark = pytest.mark.parametrize("kind", KINDS)


def played(kind: Kind, count: int, rules: Rules, plies: int, seed: int = 0) -> Board:
    """Boards in the midst of random games."""
    board, dice = boards(rules, count, kind), np.random.default_rng(seed)
    for _ in range(plies):
        board.step(pick(board, dice, passing=0.1))
    return board


def ko(kind: Kind, count: int) -> tuple[Board, dict[str, int]]:
    """`count` boards on which Black has just taken the ko; White may not retake it at `b`."""
    _, at = game(kind, KO)
    board = boards(Rules(5, 5), count, kind)
    for row in range(count):
        board.set_up(row, stones(KO))
    board.step([at["a"]] * count)
    return board, at | {"b": at["a"] - 1}


# ---------------------------------------------------------------- steps


def test_many_boards_at_once_equal_each_alone(kind: Kind) -> None:
    rules = Rules(4, 5, most_plies=60)
    many, dice = boards(rules, 12, kind), np.random.default_rng(1)
    alone = [boards(rules, 1, kind) for _ in range(12)]
    for _ in range(75):
        actions = np.where(dice.random(12) < 0.2, -1, pick(many, dice, passing=0.2))  # some lag behind
        many.step(actions)
        owned, score = many.ownership(), many.score()
        for row, one in enumerate(alone):
            one.step(actions[row : row + 1])
            assert state(one, 0) == state(many, row)
            assert (one.ownership()[0] == owned[row]).all() and one.score()[0] == score[row]
    assert many.over.any() and many.truncated.any()


def test_minus_one_leaves_a_board_alone(kind: Kind) -> None:
    board = played(kind, 3, Rules(4, 4), plies=9)
    before = [state(board, row) for row in range(3)]
    board.step([-1, int(pick(board, np.random.default_rng(0))[1]), -1])
    after = [state(board, row) for row in range(3)]
    assert (after[0], after[2]) == (before[0], before[2]) and after[1]["plies"] == before[1]["plies"] + 1
    board.step([-1, -1, -1])
    assert [state(board, row) for row in range(3)] == after


def test_an_illegal_move_says_which_and_why_and_nothing_is_played_anywhere(kind: Kind) -> None:
    board, at = ko(kind, 4)
    board.step([-1, 25, -1, -1])
    board.step([-1, 25, -1, -1])  # the second game is over
    before = [state(board, row) for row in range(4)]
    free, suicide, occupied = at["c"], 0, 1
    wrong: list[tuple[list[int], int, Reason]] = [
        ([free, -1, at["b"], free], 2, "superko"),
        ([free, -1, free, suicide], 3, "suicide"),
        ([occupied, -1, free, free], 0, "occupied"),
        ([free, free, free, free], 1, "over"),
        ([free, 25, free, free], 1, "over"),
    ]
    for actions, row, reason in wrong:
        with pytest.raises(IllegalMove, match=f"^board {row}, action {actions[row]}: ") as caught:
            board.step(actions)
        assert (caught.value.board, caught.value.action, caught.value.reason) == (row, actions[row], reason)
        assert board.why(row, actions[row]) == reason
        assert [state(board, row) for row in range(4)] == before
    board.step([free, -1, free, free])
    assert board.plies.tolist() == [2, 3, 2, 2]


@pytest.mark.parametrize("actions", [[0, 17], [0, -2], [0, 2**40], [0], [0, 1, 2], [[0, 1]], 0])
def test_what_is_no_action_for_each_board_is_refused(actions: Any, kind: Kind) -> None:
    board = boards(Rules(4, 4), 2, kind)
    with pytest.raises(ValueError, match=r"^action(s have the shape .* one for each of 2| .*: 0 to 16 are)"):
        board.step(actions)
    assert not board.plies.any() and not board.stones.any()


def test_no_boards_and_no_such_kind_are_refused(kind: Kind) -> None:
    with pytest.raises(ValueError, match="count = 0: at least 1 board"):
        boards(Rules(3, 3), 0, kind)
    with pytest.raises(ValueError, match=f"kind = '{kind}s': numba or numpy"):
        boards(Rules(3, 3), 1, f"{kind}s")  # type: ignore[arg-type]


# ---------------------------------------------------------------- starts


def test_reset_touches_its_rows_only_and_forgets_their_past(kind: Kind) -> None:
    board = played(kind, 5, Rules(3, 3, most_plies=12), plies=12)
    before = [state(board, row) for row in range(5)]
    assert board.truncated.any()
    fresh = state(boards(board.rules, 1, kind), 0)
    board.reset([3, 0])
    assert [state(board, row) for row in range(5)] == [fresh, before[1], before[2], fresh, before[4]]
    board.reset(np.array([], np.int64))
    assert state(board, 1) == before[1]
    board.reset()
    assert [state(board, row) for row in range(5)] == [fresh] * 5

    short = boards(Rules(1, 2), 1, kind)
    play(short, 0, 1)
    assert short.why(0, 0) == "superko"
    short.reset()
    play(short, 2, 1)
    assert short.legal[0, 0]  # a lone black stone has not stood in this game


def test_a_position_set_up_starts_a_game_and_may_not_come_back(kind: Kind) -> None:
    board = played(kind, 2, Rules(5, 5), plies=20)
    other = state(board, 1)
    board.set_up(0, stones(KO), WHITE)
    assert draw(board.stones[0]) == draw(stones(KO)) and board.to_play[0] == WHITE
    assert (board.plies[0], board.passes[0], board.last[0], board.done[0]) == (0, 0, -1, False)
    take = KO.replace(" ", "").index("a")
    board.step([25, -1])
    board.step([take, -1])
    assert board.why(0, take - 1) == "superko" and state(board, 1) == other
    board.set_up(0, board.stones[0].copy(), WHITE)  # what was before the game is not known to it
    assert board.legal[0, take - 1]


@pytest.mark.parametrize(
    ("drawing", "says"),
    [
        ("XO. O.. ...", "the chain at row 1 from the top, column 1, has no liberty"),
        ("... .XX XOO", "the chain at row 3 from the top, column 2, has no liberty"),
        ("XXX XXX XXX", "has no liberty"),
        ("... ...", "a position is 3 x 3 of -1, 0 and 1"),
        (".... .... ....", "a position is 3 x 3 of -1, 0 and 1"),
    ],
)
def test_positions_that_cannot_stand_are_refused(drawing: str, says: str, kind: Kind) -> None:
    board = played(kind, 2, Rules(3, 3), plies=4)
    before = [state(board, row) for row in range(2)]
    with pytest.raises(ValueError, match=says):
        board.set_up(1, stones(drawing))
    with pytest.raises(ValueError, match="a position is 3 x 3 of -1, 0 and 1"):
        board.set_up(1, np.full((3, 3), 2, np.int8))
    with pytest.raises(ValueError, match="a position is 3 x 3 of -1, 0 and 1"):
        board.set_up(1, np.full((3, 3), 257))
    with pytest.raises(ValueError, match="to_play = 0"):
        board.set_up(1, stones("... ... ..."), 0)
    assert [state(board, row) for row in range(2)] == before


def test_a_game_resumed_goes_on_with_its_past(kind: Kind) -> None:
    board, at = ko(kind, 3)
    other = state(board, 0)
    for _ in range(2):
        board.step([-1, 25, 25])
    assert board.over.tolist() == [False, True, True]
    board.resume(1, WHITE)
    assert (board.to_play[1], board.passes[1], board.over[1]) == (WHITE, 0, False)
    assert board.why(1, at["b"]) == "superko" and board.legal[1, at["c"]]
    board.resume(2, BLACK)
    board.step([-1, at["c"], at["c"]])
    assert board.stones[1:, 0, 4].tolist() == [WHITE, BLACK] and state(board, 0) == other
    short = played(kind, 1, Rules(2, 2, most_plies=2), plies=2)
    short.resume(0, WHITE)
    assert short.truncated[0] and not short.legal.any()


# ---------------------------------------------------------------- copies


def test_a_copy_goes_its_own_way_with_the_whole_past(kind: Kind) -> None:
    board, at = ko(kind, 3)
    board.reset([2])
    board.copy([0], [2])
    assert state(board, 2) == state(board, 0) and board.why(2, at["b"]) == "superko"
    one = state(board, 0)
    board.step([-1, -1, at["c"]])
    board.step([-1, -1, at["d"]])
    assert board.legal[2, at["b"]] and state(board, 0) == one
    board.step([at["d"], -1, at["b"]])
    assert board.why(2, at["a"]) == "superko" and board.stones[0].sum() != board.stones[2].sum()

    away = boards(board.rules, 2, kind)
    away.copy([2, 1], [0, 1], board)
    assert [state(away, 0), state(away, 1)] == [state(board, 2), state(board, 1)]
    board.reset()
    assert away.why(0, at["a"]) == "superko" and away.why(1, at["b"]) == "superko"


def test_copies_of_one_board_and_boards_that_change_places(kind: Kind) -> None:
    board = played(kind, 4, Rules(3, 4), plies=10)
    before = [state(board, row) for row in range(4)]
    board.copy([1, 0], [0, 1])
    assert [state(board, row) for row in range(4)] == [before[1], before[0], before[2], before[3]]
    board.copy(np.array([3, 3]), np.array([0, 2]))
    assert [state(board, row) for row in range(4)] == [before[3], before[0], before[3], before[3]]


def test_boards_of_other_rules_or_another_kind_are_not_copied(kind: Kind) -> None:
    board = boards(Rules(3, 3), 1, kind)
    for other in (boards(Rules(3, 3, suicide=True), 1, kind), *(boards(Rules(3, 3), 1, k) for k in KINDS)):
        if other.rules != board.rules or type(other) is not type(board):
            with pytest.raises(ValueError, match="of the same kind and rules"):
                board.copy([0], [0], other)


def test_games_copied_in_their_midst_go_on_as_the_originals(kind: Kind) -> None:
    """Boards too small to be filled in peace: here almost every move meets the past."""
    rules = Rules(2, 3, most_plies=200, suicide=True)
    board, dice = played(kind, 40, rules, plies=15, seed=5), np.random.default_rng(6)
    twin = boards(rules, 40, kind)
    twin.copy(np.arange(40), np.arange(40)[::-1], board)
    for _ in range(150):
        assert (twin.legal[::-1] == board.legal).all() and (twin.stones[::-1] == board.stones).all()
        actions = pick(board, dice, passing=0.02)
        board.step(actions)
        twin.step(actions[::-1])
    assert board.over.any()
