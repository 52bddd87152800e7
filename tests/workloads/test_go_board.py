"""The Go boards: the rules, one situation at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.goboards import FIELDS, KINDS, Kind, draw, game, pick, play, stones
from workloads.go.board import BLACK, WHITE, IllegalMove, Reason, Rules, boards

KO = ".XO.c XOaO. .XO.. ..... d...."  # Black takes at a; c and d are elsewhere
SEND_TWO = ".OOX. OOOXX OOOX. OOXXX aXbXX"  # Black adds a second stone at a, White takes both at b
TRIPLE_KO = ".XO...... XOaO..... .XO...... .XO...... XbXO..... .XO...... .XO...... XOcO..... .XO......"
SNAPBACK = "baOX OOOX XXXX ...."
SEKI = ".OX.X. OOXXXX XXXOOO XOOO.O XXXXOO ..OXO."

each_kind = pytest.mark.parametrize("kind", KINDS)


# ---------------------------------------------------------------- the start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rows", 0), ("rows", 20), ("columns", 0), ("columns", 20), ("komi", float("nan"))),
        *(("komi", float("-inf")), ("komi", 1001), ("most_plies", -1), ("most_plies", 32_001)),
    ],
)
def test_rules_that_cannot_be_played_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} = {value}: "):
        Rules(**{name: value})


@each_kind
def test_a_new_board_is_empty_and_black_may_do_all(kind: Kind) -> None:
    board = boards(Rules(3, 4), 2, kind)
    assert len(board) == 2 and board.stones.shape == (2, 3, 4) and not board.stones.any()
    assert board.legal.shape == (2, 13) and board.legal.all() and (board.to_play == BLACK).all()
    assert not (board.plies.any() or board.passes.any() or board.done.any()) and (board.last == -1).all()
    dtypes = {name: getattr(board, name).dtype.name for name in FIELDS}
    assert (dtypes["stones"], dtypes["to_play"], dtypes["passes"]) == ("int8", "int8", "int8")
    assert (dtypes["plies"], dtypes["last"], dtypes["legal"], dtypes["over"]) == ("int32",) * 2 + (
        "bool",
    ) * 2


# ---------------------------------------------------------------- captures and suicide


@each_kind
@pytest.mark.parametrize(
    ("before", "to_play", "after"),
    [
        ("OX a. ..", BLACK, ".X X. .."),
        (".X. XOa .X.", BLACK, ".X. X.X .X."),
        ("OOX aXX ...", BLACK, "..X XXX ..."),
        ("X.XO OXOO aOO. ....", BLACK, "X.XO .XOO XOO. ...."),
        ("XaXO OXOO .OO. ....", WHITE, ".O.O O.OO .OO. ...."),  # three chains
        ("aXO XO. O..", WHITE, "O.O .O. O.."),  # the capture comes before suicide
        ("OXX OXa OOO", WHITE, "O.. O.O OOO"),  # the last liberty of both
    ],
)
def test_a_move_takes_what_it_leaves_without_liberties(
    before: str, to_play: int, after: str, kind: Kind
) -> None:
    board, at = game(kind, before, to_play)
    play(board, at["a"])
    assert draw(board.stones[0]) == after
    assert (board.to_play[0], board.plies[0], board.last[0]) == (-to_play, 1, at["a"])


@each_kind
@pytest.mark.parametrize("drawing", ["aX. X.. ...", "OX. aX. X..", "OOX OaX XX."])
def test_suicide_is_forbidden_unless_the_rules_allow_it(drawing: str, kind: Kind) -> None:
    board, at = game(kind, drawing, WHITE)
    assert board.why(0, at["a"]) == "suicide" and not board.legal[0, at["a"]]
    board, at = game(kind, drawing, WHITE, suicide=True)
    if "O" not in drawing:  # a single stone's leaves the position as it was
        assert board.why(0, at["a"]) == "superko"
    else:
        play(board, at["a"])
        assert draw(board.stones[0]) == draw(stones(drawing.replace("O", ".")))
        assert board.to_play[0] == BLACK


@each_kind
def test_under_simple_ko_a_single_stones_suicide_is_a_pass(kind: Kind) -> None:
    """What may not come back is the position before the opponent's move, and that is another."""
    board, at = game(kind, "aX. X.. ..b", superko="simple", suicide=True)
    play(board, at["b"], at["a"])
    assert draw(board.stones[0]) == ".X. X.. ..X" and (board.plies[0], board.passes[0]) == (2, 0)


# ---------------------------------------------------------------- ko


@each_kind
@pytest.mark.parametrize("superko", ["positional", "simple"])
def test_a_ko_is_retaken_only_after_a_move_elsewhere(superko: str, kind: Kind) -> None:
    board, at = game(kind, KO, superko=superko)
    play(board, at["a"])
    assert draw(board.stones[0]) == ".XO.. X.XO. .XO.. ..... ....."
    retake = at["a"] - 1
    assert board.why(0, retake) == "superko" and not board.legal[0, retake]
    play(board, at["c"], at["d"], retake)
    assert draw(board.stones[0]) == ".XO.O XO.O. .XO.. ..... X...."


@each_kind
def test_a_snapback_is_no_ko(kind: Kind) -> None:
    board, at = game(kind, SNAPBACK)
    play(board, at["a"], at["b"])
    assert draw(board.stones[0]) == "O.OX OOOX XXXX ...."
    play(board, at["a"])
    assert draw(board.stones[0]) == ".X.X ...X XXXX ...."


@each_kind
def test_two_are_sent_and_one_returned_only_under_simple_ko(kind: Kind) -> None:
    board, at = game(kind, SEND_TWO)
    play(board, at["a"], at["b"])
    assert board.why(0, at["a"] + 1) == "superko"
    board, at = game(kind, SEND_TWO, superko="simple")
    play(board, at["a"], at["b"], at["a"] + 1)
    assert draw(board.stones[0]) == draw(stones(SEND_TWO))


@each_kind
def test_a_triple_ko_goes_round_only_under_simple_ko(kind: Kind) -> None:
    for superko, reason in (("positional", "superko"), ("simple", None)):
        board, at = game(kind, TRIPLE_KO, superko=superko)
        play(board, at["a"], at["b"], at["c"], at["a"] - 1)
        assert board.why(0, at["a"]) == "superko"  # the one just taken, under either rule
        play(board, at["b"] + 1)
        assert board.why(0, at["c"] - 1) == reason
    play(board, at["c"] - 1)
    assert draw(board.stones[0]) == draw(stones(TRIPLE_KO))


@each_kind
def test_a_pass_between_neither_lifts_the_ban_nor_adds_one(kind: Kind) -> None:
    rules = Rules(1, 2, suicide=True)
    board = boards(rules, 1, kind)
    play(board, 0, rules.points)
    assert board.why(0, 1) == "superko"  # both stones' suicide: the empty board stood at the start
    board.reset()
    play(board, rules.points)
    assert board.legal.all()


# ---------------------------------------------------------------- the end


@each_kind
def test_two_passes_in_a_row_end_the_game(kind: Kind) -> None:
    board = boards(Rules(3, 3), 1, kind)
    play(board, 9, 4, 9)
    assert board.passes[0] == 1 and not board.done[0]
    assert draw(board.stones[0]) == "... .O. ..." and board.last[0] == 9
    play(board, 9)
    assert board.over[0] and not board.truncated[0] and not board.legal.any()
    assert {board.why(0, action) for action in range(10)} == {"over"}
    with pytest.raises(IllegalMove, match="the game is over"):
        board.step([0])


@each_kind
def test_a_game_is_cut_off_at_the_cap_and_that_is_not_its_end(kind: Kind) -> None:
    assert (Rules(3, 4).cap, Rules(2, 2).cap, Rules(9, 9, most_plies=3).cap) == (24, 20, 3)
    board = boards(Rules(3, 3, most_plies=3), 2, kind)
    board.step([0, 0])
    board.step([1, 9])
    assert not board.done.any()
    board.step([2, 9])  # the second's last two are passes
    assert board.truncated.tolist() == [True, False] and board.over.tolist() == [False, True]
    assert not board.legal.any() and board.why(0, 9) == "over"
    board.step([-1, -1])
    assert board.plies.tolist() == [3, 3]


@each_kind
@pytest.mark.parametrize(
    ("drawing", "owned"),
    [
        ("... ...", "... ..."),
        ("X.. ...", "XXX XXX"),
        ("X.O X.O", "X.O X.O"),
        (".X.. XX.. ..O. ....", "XX.. XX.. ..O. ...."),  # a dead stone stands, and is alive
        (SEKI, "OOXXXX OOXXXX XXXOOO XOOOOO XXXXOO ..OXOO"),
    ],
)
def test_a_point_is_owned_by_the_colour_that_alone_reaches_it(drawing: str, owned: str, kind: Kind) -> None:
    board, _ = game(kind, drawing, komi=6.5)
    points = owned.count("X") - owned.count("O")
    assert draw(board.ownership()[0]) == owned and board.ownership().dtype == np.int8
    assert board.score().tolist() == [points] and board.value().tolist() == [points - 6.5]


# ---------------------------------------------------------------- small and oblong boards


@each_kind
@pytest.mark.parametrize(("suicide", "reason"), [(False, "suicide"), (True, "superko")])
def test_on_one_point_only_a_pass_is_left(suicide: bool, reason: Reason, kind: Kind) -> None:
    board = boards(Rules(1, 1, suicide=suicide), 1, kind)
    assert board.legal.tolist() == [[False, True]] and board.why(0, 0) == reason
    play(board, 1)
    assert board.why(0, 0) == reason
    play(board, 1)
    assert board.over[0] and board.score().tolist() == [0]


@each_kind
def test_on_three_points_in_a_line_a_ko_is_longer_than_two_plies(kind: Kind) -> None:
    board = boards(Rules(1, 3), 1, kind)
    play(board, 1)
    assert [board.why(0, action) for action in range(4)] == ["suicide", "occupied", "suicide", None]
    play(board, 3, 0, 2)
    assert draw(board.stones[0]) == "..O" and board.why(0, 1) == "superko"


@each_kind
def test_an_oblong_board_is_the_turned_one(kind: Kind) -> None:
    wide, tall = boards(Rules(3, 5), 20, kind), boards(Rules(5, 3), 20, kind)
    turned = np.append(np.arange(15).reshape(5, 3).T.ravel(), 15)  # a point of `wide` -> of `tall`
    dice = np.random.default_rng(3)
    for _ in range(wide.rules.cap):
        actions = pick(wide, dice)
        wide.step(actions)
        tall.step(np.where(actions < 0, -1, turned[actions]))
        assert (wide.legal == tall.legal[:, turned]).all()
        assert (wide.stones == tall.stones.transpose(0, 2, 1)).all()
        assert (wide.ownership() == tall.ownership().transpose(0, 2, 1)).all()
    assert wide.done.all()
