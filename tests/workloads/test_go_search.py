"""Searching many games at once: tactics, superko, schedules, and what a tree adds up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from workloads.go.board import BLACK, WHITE, Board, Rules, boards
from workloads.go.match import play_game
from workloads.go.model import GoNet, Judge, Outputs, Turned
from workloads.go.notation import action_of, parse
from workloads.go.planes import observe
from workloads.go.players import RandomPlayer
from workloads.go.search import Floats, Search, SearchPlayer, schedule
from workloads.go.symmetries import symmetries, turn

RULES = Rules(5, 5, komi=0.5)
Numbers = NDArray[np.int64]


def by_area(board: Board, rows: Numbers) -> tuple[Floats, Floats]:
    """A judge that knows no move from another, and counts what is on the board."""
    value = np.tanh(board.value(rows) / 10) * board.to_play[rows]
    return np.zeros((len(rows), board.rules.actions), np.float32), value.astype(np.float32)


def position(rows: str, to_play: int, rules: Rules = RULES, count: int = 1) -> Board:
    board = boards(rules, count)
    for row in range(count):
        board.set_up(row, parse(rows), to_play)
    return board


def test_it_captures_and_it_saves() -> None:
    rows = """
        . . . . .
        . X X . .
        X O O . .
        . X X . .
        . . . . ."""
    wanted = action_of("D3", 5, 5)
    for to_play in (BLACK, WHITE):
        search = Search(by_area, RULES, visits=150)
        found = search.run(position(rows, to_play))
        assert found.tried.sum() == 150
        if to_play == BLACK:
            assert found.action[0] == wanted and found.policy[0].argmax() == wanted
            assert search.variation(0, wanted)[0] == wanted
        assert np.sign(found.value[0]) == to_play


def test_a_game_that_a_pass_wins_is_passed() -> None:
    """Black leads, White has just passed: the pass ends the game, all else goes on."""
    board = position("X X X\n. X .\nX X .", WHITE, Rules(3, 3, komi=0.5))
    board.step([9])
    found = Search(by_area, board.rules, visits=64).run(board)
    assert found.action[0] == 9 and found.value[0] > 0.8


def test_superko_holds_inside_the_tree() -> None:
    """The ko may not be retaken at once: neither at the root nor one ply below it."""
    board = position(
        """
        . X O . .
        X . X O .
        . X O . .
        . . . . .
        . . . . .""",
        WHITE,
    )
    take, retake = action_of("B4", 5, 5), action_of("C4", 5, 5)
    search = Search(by_area, RULES, visits=200, considered=25)
    search.run(board)
    below = int(search.child[search.roots[0], take])
    assert below > 0 and search.logits[below, retake] < -1e8 and search.tried[below, retake] == 0
    board.step([take])
    assert board.why(0, retake) == "superko"
    assert Search(by_area, RULES, visits=64).run(board).tried[0, retake] == 0


def test_many_games_are_searched_as_each_alone() -> None:
    rng, many = np.random.default_rng(1), boards(RULES, 6)
    for _ in range(7):
        many.step([int(rng.choice(np.flatnonzero(legal))) for legal in many.legal])
    together = Search(by_area, RULES, trees=6, visits=40).run(many)
    for row in range(6):
        alone = Search(by_area, RULES, visits=40).run(many, [row])
        assert alone.action[0] == together.action[row]
        np.testing.assert_array_equal(alone.tried[0], together.tried[row])
        np.testing.assert_allclose(alone.policy[0], together.policy[row], atol=1e-6)


def test_values_add_up_over_the_tree() -> None:
    """The sum at every action is minus that below it, its first visit included."""
    search = Search(by_area, RULES, visits=120, considered=8)
    search.run(boards(RULES, 1))
    checked = 0
    for node in range(121):
        for action in np.flatnonzero(search.tried[node]):
            end = int(search.child[node, action])
            assert search.tried[node, action] == 1 + search.tried[end].sum()
            below = search.value[end] + search.total[end].sum()
            assert search.total[node, action] == pytest.approx(-below, abs=1e-4)
            checked += 1
    assert checked == 120, "every simulation adds a node where no game ends"


def test_noise_draws_moves_and_its_seed_repeats_them() -> None:
    def drawn(seed: int | None) -> list[int]:
        noise = None if seed is None else np.random.default_rng(seed)
        return Search(by_area, RULES, 30, 8).run(boards(RULES, 30), noise=noise).action.tolist()

    assert len(set(drawn(None))) == 1 and len(set(drawn(3))) > 5
    assert drawn(3) == drawn(3) != drawn(4)


def test_a_done_board_is_left_alone() -> None:
    board = boards(RULES, 2)
    board.step([25, 0])
    board.step([25, 1])
    found = Search(by_area, RULES, trees=2, visits=16).run(board)
    assert board.over.tolist() == [True, False]
    assert found.action[0] == -1 and found.tried[0].sum() == 0 and found.policy[0].sum() == 0
    assert found.action[1] >= 0 and found.policy[1].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("considered, visits", [(1, 5), (2, 7), (4, 16), (16, 64), (16, 10), (82, 800)])
def test_halving_tries_all_then_the_better_half(considered: int, visits: int) -> None:
    plan = schedule(considered, visits)
    assert len(plan) == visits and plan[0] == 0
    tried: dict[int, int] = {}
    for want in plan.tolist():  # an adversary: always the first action that was tried so often
        action = next(a for a in range(considered) if tried.get(a, 0) == want)
        tried[action] = want + 1
    counts = sorted((tried.get(a, 0) for a in range(considered)), reverse=True)
    assert sum(counts) == visits
    if visits >= considered * 4 and considered > 2:
        assert counts[0] == counts[1] > counts[considered // 2] >= counts[-1] >= 1


def test_a_player_that_searches_takes_what_hangs() -> None:
    """Against one that moves at random, by the area alone; the board may change between games."""
    player = SearchPlayer(by_area, visits=40)
    for size in (4, 5):
        rules = Rules(size, size, komi=0.5)
        games = [play_game(player, RandomPlayer(), rules, seed=seed) for seed in range(2)]
        games += [play_game(RandomPlayer(), player, rules, seed=seed) for seed in range(2)]
        assert [game.winner for game in games] == [BLACK, BLACK, WHITE, WHITE]
    again = play_game(player, RandomPlayer(), rules, seed=0)
    assert again.moves == games[0].moves


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="visits = 0: at least 1"):
        Search(by_area, RULES, visits=0)
    with pytest.raises(ValueError, match="3 boards for 2 trees"):
        Search(by_area, RULES, trees=2).run(boards(RULES, 3))


# ---------------------------------------------------------------- symmetries and the network


@pytest.mark.parametrize("rows, columns, many", [(5, 5, 8), (3, 4, 4), (1, 1, 8)])
def test_symmetries_keep_the_rules(rows: int, columns: int, many: int) -> None:
    """A game played turned is the turned game."""
    rules, rng = Rules(rows, columns), np.random.default_rng(2)
    moves = symmetries(rows, columns)
    assert len(moves) == many and (moves[0] == np.arange(rules.actions)).all()
    if rows * columns > 4:
        assert len({tuple(each) for each in moves.tolist()}) == many
    board = boards(rules, many)
    for _ in range(12):
        if board.done.any():
            break
        action = int(rng.choice(np.flatnonzero(board.legal[0])))
        board.step(moves[:, action])
        seen = observe(board)
        for s in range(many):
            assert (board.legal[s, moves[s]] == board.legal[0]).all()
            np.testing.assert_array_equal(turn(seen[:1], moves[s]), seen[s : s + 1])


def stirred() -> GoNet:
    torch.manual_seed(0)
    net = GoNet(16, 2).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net


def played(rules: Rules, count: int, plies: int) -> Board:
    rng, board = np.random.default_rng(4), boards(rules, count)
    for _ in range(plies):
        board.step([int(rng.choice(np.flatnonzero(legal[:-1]))) for legal in board.legal])
    return board


def test_boards_of_several_sizes_stand_in_one_batch() -> None:
    """Padding changes no answer: neither policy nor value, score or ownership."""
    net = stirred()
    small = torch.from_numpy(observe(played(Rules(5, 5), 2, 9))).double()
    large = torch.from_numpy(observe(played(Rules(7, 7), 2, 9))).double()
    padded = torch.zeros(4, *large.shape[1:], dtype=torch.float64)
    padded[:2, :, :5, :5], padded[2:] = small, large
    with torch.no_grad():
        alone: Outputs = net(small)
        both: Outputs = net(padded)
    places = [*(torch.arange(5)[:, None] * 7 + torch.arange(5)).flatten().tolist(), 49]
    for one, other in (
        (alone.policy, both.policy[:2, places]),
        (alone.value, both.value[:2]),
        (alone.score, both.score[:2]),
        (alone.ownership, both.ownership[:2, :5, :5]),
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_judge_looks_through_the_eyes_of_the_side_to_move() -> None:
    net = stirred().float()
    board = played(RULES, 3, 5)
    logits, value = Judge(net)(board, np.arange(3))
    assert logits.shape == (3, 26) and value.shape == (3,) and (np.abs(value) < 1).all()
    planes = observe(board)
    assert (planes[:, 0] == (board.stones == board.to_play[:, None, None])).all()
    found = Search(Judge(net), RULES, 3, 16).run(board)
    assert board.legal[np.arange(3), found.action].all()


def test_turned_positions_are_judged_alike() -> None:
    judge = Turned(Judge(stirred().float()))
    moves, rng = symmetries(5, 5), np.random.default_rng(6)
    board = boards(RULES, len(moves))
    for _ in range(8):
        board.step(moves[:, int(rng.choice(np.flatnonzero(board.legal[0])))])
    logits, value = judge(board, np.arange(len(moves)))
    assert np.ptp(value) < 1e-6
    chances = np.exp(logits)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    for turned, symmetry in zip(chances, moves, strict=True):
        np.testing.assert_allclose(turned[symmetry], chances[0], atol=1e-6)
    plain, _ = judge.judge(board, np.arange(len(moves)))
    assert np.abs(plain[1][moves[1]] - plain[0]).max() > 1e-3, "the network alone does not see that"
    search = Search(judge.judge, RULES, 8, 16, at_root=judge)
    search.run(board)
    np.testing.assert_allclose(search.value[search.roots], value, atol=1e-6)
