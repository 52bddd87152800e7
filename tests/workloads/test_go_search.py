"""Searching many games at once and thinking about one: tactics, superko, schedules, what trees add up to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from workloads.go.board import BLACK, WHITE, Board, Kind, Rules, boards
from workloads.go.match import play_game
from workloads.go.model import GoNet, Judge, Outputs, Turned
from workloads.go.notation import action_of, parse
from workloads.go.planes import observe
from workloads.go.players import RandomPlayer
from workloads.go.search import Evaluate, Floats, Search, schedule
from workloads.go.symmetries import symmetries, turn
from workloads.go.thinking import ROOT, Thinker, Thought, Tree
from workloads.go.tree import NOWHERE

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
    player = Thinker(by_area, visits=40)
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


# ---------------------------------------------------------------- thinking about one game


HANGS = """
    . . . . .
    . X X . .
    X O O . .
    . X X . .
    . . . . ."""


class Counted:
    """A judge, a second slow, that keeps how many it was asked about."""

    def __init__(self, judge: Evaluate = by_area) -> None:
        self.judge, self.sizes, self.fails = judge, list[int](), 0

    def __call__(self, board: Board, rows: Numbers) -> tuple[Floats, Floats]:
        if len(self.sizes) + 1 == self.fails:
            raise RuntimeError("out of memory")
        self.sizes.append(len(rows))
        return self.judge(board, rows)

    def clock(self) -> float:
        return float(len(self.sizes))


def opinionated(board: Board, rows: Numbers) -> tuple[Floats, Floats]:
    """A judge to whom every position is another, as a network is, and no slower than it must be."""
    seen = (board.stones[rows] * board.to_play[rows, None, None]).reshape(len(rows), -1)
    weights = np.random.default_rng(8).normal(size=(seen.shape[1], board.rules.actions))
    said = seen @ weights
    return said.astype(np.float32), np.tanh(said.mean(1)).astype(np.float32)


def tree_of(thinker: Thinker) -> Tree:
    assert thinker.tree is not None
    return thinker.tree


def below(tree: Tree, node: int) -> list[object]:
    """All that is known from a node on, without the nodes' numbers."""
    known: list[object] = [float(tree.value[node]), tree.logits[node].tolist()]
    known += [tree.tried[node].tolist(), tree.total[node].tolist(), tree.nodes.stones[node].tolist()]
    ends = [(action, int(tree.child[node, action])) for action in np.flatnonzero(tree.tried[node]).tolist()]
    return known + [(action, below(tree, end)) for action, end in ends]


def assert_alike(one: Thought, other: Thought) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("noisy", [False, True])
def test_one_leaf_at_a_time_is_the_search_of_many_games(noisy: bool) -> None:
    board = played(RULES, 3, 6)
    for row in range(3):
        found = Search(opinionated, RULES, 1, 90, 12).run(
            board, [row], np.random.default_rng(3) if noisy else None
        )
        thinker = Thinker(opinionated, 90, 12, together=1)
        thought = thinker.think(board, row, np.random.default_rng(3) if noisy else None)
        assert thought.action == found.action[0] and thought.value == found.value[0]
        np.testing.assert_array_equal(thought.policy, found.policy[0])
        np.testing.assert_array_equal(thought.tried, found.tried[0])
        assert thought.visits == 90 and thought.variation[0] == thought.action


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_eight_leaves_at_a_time_find_what_hangs(seconds: float) -> None:
    judge = Counted()
    thought = Thinker(judge, 150, seconds=seconds).think(position(HANGS, BLACK), 0)
    assert thought.action == action_of("D3", 5, 5) == thought.policy.argmax() and thought.value > 0
    assert thought.visits == sum(judge.sizes) - 1 == 150, "nothing ends and nothing is asked twice"
    assert max(judge.sizes) == 8 and np.mean(judge.sizes[1:]) > 5


def test_a_network_that_knows_nothing_sees_a_win_at_hand() -> None:
    def nothing(board: Board, rows: Numbers) -> tuple[Floats, Floats]:
        return np.zeros((len(rows), board.rules.actions), np.float32), np.zeros(len(rows), np.float32)

    board = position("X X X\n. X .\nX X .", WHITE, Rules(3, 3, komi=0.5))
    board.step([9])
    assert Thinker(nothing, 64).think(board, 0).action == 9


def test_a_batch_ends_where_actions_are_dropped() -> None:
    judge = Counted()
    Thinker(judge, 30, considered=12, together=8).think(boards(RULES), 0)
    assert judge.sizes[:4] == [1, 8, 4, 6] and sum(judge.sizes) == 31


def test_leaves_that_are_found_together_are_different() -> None:
    """A judge with strong opinions, for whom one line is all that counts, hears of each leaf once."""

    def sharp(board: Board, rows: Numbers) -> tuple[Floats, Floats]:
        logits, value = opinionated(board, rows)
        logits[:, -1] = -100  # no game ends, so that each visit has a leaf of its own
        return 20 * logits, value / np.float32(10)

    judge = Counted(sharp)
    thinker = Thinker(judge, 120, considered=2)
    thinker.think(played(replace(RULES, most_plies=200), 1, 4), 0)
    tree = tree_of(thinker)
    assert sum(judge.sizes) == tree.used == 121 and np.mean(judge.sizes[1:]) < 7, "batches end early"
    ends = tree.child[tree.child != NOWHERE]
    assert sorted(ends.tolist()) == list(range(1, 121)), "every node is led to once"
    for node, action in np.argwhere(tree.tried > 0).tolist():
        end = int(tree.child[node, action])
        assert tree.tried[node, action] == 1 + tree.tried[end].sum()
        total = -(tree.value[end] + tree.total[end].sum())
        assert tree.total[node, action] == pytest.approx(total, abs=1e-4)


def test_the_tree_is_kept_from_move_to_move() -> None:
    judge = Counted()
    thinker, board = Thinker(judge, 100, 8), boards(RULES)
    most = 0
    for _ in range(5):
        thought, tree = thinker.think(board, 0), tree_of(thinker)
        assert thought.visits == 100 and tree.used <= 101
        again, asked = thinker.think(board, 0), len(judge.sizes)
        assert_alike(thought, again)
        own, reply = thought.variation[:2]
        node = int(tree.child[tree.child[ROOT, own], reply])
        before, visits = below(tree, node), int(tree.tried[node].sum())
        board.step([own])
        board.step([reply])
        tree.move_to(board, 0)
        assert below(tree, ROOT) == before and tree.nodes.same([ROOT], board, 0).all()
        assert int(tree.tried[ROOT].sum()) == visits and tree.used <= visits + 1
        thinker.think(board, 0)
        assert sum(judge.sizes[asked:]) <= 100 - visits, "what is known is not asked again"
        most = max(most, visits)
    assert most > 5


def test_a_position_with_another_past_is_not_the_one_in_the_tree() -> None:
    """The same stones, side to move, plies and last move; but other positions may not come back."""
    rules, line, other = Rules(3, 3, komi=0.5), (0, 2, 8, 6), (8, 2, 0, 6)
    for moves, kept in ((line, True), (other, False)):
        thinker, board = Thinker(by_area, 400, 10), boards(rules)
        for action in line[:2]:
            board.step([action])
        thinker.think(board, 0)
        tree = tree_of(thinker)
        node = int(tree.child[tree.child[ROOT, line[2]], line[3]])
        assert node != NOWHERE and tree.tried[node].any()
        board.reset()
        for action in moves:
            board.step([action])
        assert (tree.nodes.stones[node] == board.stones[0]).all()
        tree.move_to(board, 0)
        assert (tree.used > 1, bool(tree.tried[ROOT].any())) == (kept, kept)


@pytest.mark.parametrize("kind", ["numba", "numpy"])
def test_boards_are_the_same_with_their_past_alone(kind: Kind) -> None:
    board, copied = boards(RULES, 3, kind), boards(RULES, 2, kind)
    for actions in ((0, 8, 0), (2, 2, 2), (8, 0, 8)):
        board.step(actions)
    assert (board.stones[0] == board.stones[1]).all()
    copied.copy([0], [1], board)
    board.step([6, 6, 6])
    copied.step([-1, 6])
    assert board.same([0, 1, 2], copied, 1).tolist() == [True, False, True]
    assert board.same([], copied, 1).tolist() == []
    board.komi[2] += 1
    assert board.same([0, 2], copied, 1).tolist() == [True, False]
    with pytest.raises(ValueError, match="of the same kind and rules"):
        board.same([0], boards(Rules(4, 4), 1, kind), 0)


def test_time_ends_a_thought_at_the_end_of_a_batch() -> None:
    judge = Counted()
    thinker = Thinker(judge, 1000, seconds=5, clock=judge.clock)
    thought = thinker.think(boards(RULES), 0)
    assert len(judge.sizes) == 5 and thought.visits == sum(judge.sizes) - 1 <= 32
    board = position(HANGS, BLACK)
    for seconds, calls in ((2.0, 2), (9.0, 5), (None, 5)):  # the shorter holds
        asked = len(judge.sizes)
        board.resume(0, BLACK if board.to_play[0] == WHITE else WHITE)
        thinker.think(board, 0, seconds=seconds)
        assert len(judge.sizes) - asked == calls
    assert Thinker(judge, 1000, seconds=0.5, clock=judge.clock).think(board, 0).visits == 0


def test_a_long_time_is_halved_again_and_again() -> None:
    """Time runs out long before the visits: what hangs is looked at most all the same."""
    judge = Counted()
    thought = Thinker(judge, 5_000, seconds=60, clock=judge.clock).think(position(HANGS, BLACK), 0)
    assert thought.action == action_of("D3", 5, 5) == thought.tried.argmax() and thought.visits < 480
    assert thought.tried[thought.action] > thought.visits / 8


def test_no_move_in_the_tree_brings_back_a_position() -> None:
    def repetitions(rules: Rules) -> int:
        board = boards(rules)
        past = {board.stones[0].tobytes()}
        for action in (0, 1, 2):
            board.step([action])
            past.add(board.stones[0].tobytes())
        thinker = Thinker(by_area, 600, 5)
        thinker.think(board, 0)
        return again(tree_of(thinker), ROOT, past)

    def again(tree: Tree, node: int, past: set[bytes]) -> int:
        found = 0
        for action in np.flatnonzero(tree.child[node] != NOWHERE).tolist():
            end = int(tree.child[node, action])
            here = tree.nodes.stones[end].tobytes()
            found += action < tree.rules.points and here in past
            found += again(tree, end, past | {here})
        return found

    assert repetitions(Rules(2, 2)) == 0 < repetitions(Rules(2, 2, superko="simple"))


def test_every_root_is_seen_in_all_its_symmetries() -> None:
    judge = Judge(stirred().float())
    turned = Turned(judge)
    thinker, plain, board = Thinker(judge, 60, at_root=turned), Thinker(judge, 60), boards(RULES)
    for _ in range(2):
        thought = thinker.think(board, 0)
        wanted = np.where(board.legal[0], turned(board, np.array([0]))[0][0], -1e9)
        tree = tree_of(thinker)
        np.testing.assert_allclose(tree.logits[ROOT], wanted, atol=1e-5)
        plain.think(board, 0)
        assert np.abs(tree_of(plain).logits[ROOT] - wanted)[board.legal[0]].max() > 1e-3
        for action in thought.variation[:2]:
            board.step([action])
        tree.move_to(board, 0)
        assert tree.tried[ROOT].any(), "a tree that is kept has its new root judged anew"


def test_an_interrupted_thought_leaves_nothing_behind() -> None:
    judge, board = Counted(), boards(RULES)
    thinker = Thinker(judge, 80)
    judge.fails = 4
    with pytest.raises(RuntimeError, match="out of memory"):
        thinker.think(board, 0)
    judge.fails = 0
    assert_alike(thinker.think(board, 0), Thinker(by_area, 80).think(board, 0))


def test_a_thinker_refuses_what_it_cannot_do() -> None:
    for numbers, says in (
        ({"visits": 0}, "visits = 0: at least 1"),
        ({"together": 0}, "together = 0: at least 1"),
        ({"seconds": -1.0}, "seconds = -1.0: 0, which"),
        ({"seconds": float("nan")}, "seconds = nan"),
    ):
        with pytest.raises(ValueError, match=says):
            Thinker(by_area, **numbers)
    board = boards(RULES)
    board.step([25])
    board.step([25])
    with pytest.raises(ValueError, match="board 0: its game is done"):
        Thinker(by_area).think(board, 0)


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
