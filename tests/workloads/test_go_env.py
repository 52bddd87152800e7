"""Go: the gymnasium environments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, get_args

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from numpy.typing import NDArray

from tests.gogame import NaiveBoard
from workloads.go.board import IllegalMove, Rules, boards, liberties
from workloads.go.drawing import CELL, MARK, STONE, WOOD, picture
from workloads.go.env import GoEnv, Kind, Observation, Reward
from workloads.go.planes import KOMI, MEANING, PLANES, observe
from workloads.go.vector import GoVectorEnv, OpponentVectorEnv, Policy, random_moves

KINDS: tuple[Kind, ...] = ("numba", "numpy")
REWARDS: tuple[Reward, ...] = get_args(Reward)
ID = "penstock/Go-v0"
SMALL = Rules(4, 5, komi=1.0)


def chosen(seen: Observation, random: np.random.Generator) -> NDArray[np.int64]:
    """A legal action of each board, mostly no pass; any where there is none."""
    weights: NDArray[np.float64] = seen["action_mask"] * random.random(seen["action_mask"].shape)
    weights[..., -1] *= 0.7
    best: NDArray[np.int64] = weights.argmax(-1)
    return best


def passes(planes: Any, legal: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.int64]:
    return np.full(len(legal), legal.shape[1] - 1)


def first(planes: Any, legal: NDArray[np.bool_], random: np.random.Generator) -> Any:
    return legal.argmax(1)


def grid(*rows: str) -> NDArray[np.int8]:
    return np.array([["O.X".index(point) - 1 for point in row] for row in rows], np.int8)


# ---------------------------------------------------------------- planes


@pytest.mark.parametrize("kind", KINDS)
def test_planes_say_what_they_mean(kind: Kind) -> None:
    """White to play: its corner stone has one liberty, and it may not play into Black's eyes."""
    rules = Rules(3, 4, komi=5.0)
    board = boards(rules, 3, kind)
    board.set_up(1, grid("OX..", "..X.", "X.XX"), to_play=1)
    board.step([0, 3, 12])
    planes = observe(board)
    assert planes.shape == (3, PLANES, 3, 4) and planes.dtype == np.float32 and len(MEANING) == PLANES
    own, enemy, one, two, three, last, passed, barred, inside, black, komi = planes[1]
    assert (own == grid("X...", "....", "....")).all()
    assert (enemy == grid(".X.X", "..X.", "X.XX")).all()
    assert (one == grid("X...", "....", "....")).all()
    assert (two == grid(".X.X", "....", "X...")).all()
    assert (three == 0).all()
    assert (last == grid("...X", "....", "....")).all()
    assert (barred == grid("..X.", "...X", "....")).all()
    assert not passed.any() and inside.all() and not black.any() and (komi == 5 / KOMI).all()
    assert planes[2, 6].all() and not planes[2, 5].any() and not planes[0, 6].any()
    assert (observe(board, [2, 1]) == planes[[2, 1]]).all()
    mirrored = observe(board, [1], view=np.array([1], np.int8))[0]
    assert (mirrored[0] == enemy).all() and (mirrored[1] == own).all()
    assert mirrored[9].all() and (mirrored[10] == -komi).all()


def test_the_planes_of_liberties_are_those_of_a_board_that_counts_them() -> None:
    random = np.random.default_rng(0)
    env = GoVectorEnv(8, Rules(5, 6), kind="numpy")
    seen, _ = env.reset()
    met = set()
    for _ in range(40):
        seen = env.step(chosen(seen, random))[0]
        for row, stones in enumerate(env.board.stones):
            for point in np.flatnonzero(stones).tolist():
                free = liberties(stones, point)
                assert seen["planes"][row, 2:5].reshape(3, -1)[:, point].tolist() == [
                    free == few for few in (1, 2, 3)
                ]
                met.add(min(free, 4))
    assert met == {1, 2, 3, 4}


# ---------------------------------------------------------------- one board


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("size", [(9, 9), (1, 3)])
def test_gymnasium_finds_nothing_wrong(size: tuple[int, int], reward: Reward) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rules: dict[str, Any] = {"rows": size[0], "columns": size[1], "komi": 30.5, "most_plies": 9}
        check_env(gymnasium.make(ID, reward=reward, kind="numpy", **rules).unwrapped)
        check_env(gymnasium.make(ID, rules=SMALL, render_mode="ansi").unwrapped)


@pytest.mark.parametrize("kind", KINDS)
def test_a_game_is_that_of_a_naive_board(kind: Kind) -> None:
    """Observations within their space, masks, turns, ends and scores, over whole games."""
    random = np.random.default_rng(1)
    ends = set()
    for rules in (SMALL, Rules(3, 3, komi=-0.5, most_plies=40), Rules(1, 3, suicide=True), Rules(2, 2)):
        env = GoEnv(rules, kind=kind)
        for _ in range(4):
            naive = NaiveBoard(rules)
            seen, info = env.reset(seed=3)
            done = False
            while not done:
                assert seen in env.observation_space
                assert (seen["action_mask"] == naive.legal()).all() and "score" not in info
                assert (info["action_mask"] == seen["action_mask"]).all()
                assert info["to_play"] == naive.to_play
                assert (seen["planes"][0] - seen["planes"][1]).ravel().tolist() == [
                    stone * naive.to_play for stone in naive.position
                ]
                action = int(chosen(seen, random))
                mover = naive.to_play
                naive.play(action)
                seen, reward, over, cut, info = env.step(action)
                assert (over, cut) == (naive.passes == 2, naive.passes < 2 and naive.plies >= rules.cap)
                done = over or cut
                assert done or reward == 0
            assert seen in env.observation_space and not seen["action_mask"].any()
            assert info["score"] == sum(naive.ownership()) - rules.komi
            assert reward == (mover * np.sign(info["score"]) if over else 0)
            ends.add((over, mover, float(np.sign(info["score"]))))
            with pytest.raises(IllegalMove, match="the game is over"):
                env.step(rules.points)
    assert {over for over, _, _ in ends} == {True, False}
    assert len({(mover, sign) for over, mover, sign in ends if over}) >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("stones", "to_play", "moves", "action", "reason"),
    [
        ([".X.", "X..", "..."], -1, [], 0, "suicide"),
        ([".X.", "X..", "..."], -1, [], 1, "occupied"),
        ([".XO.", "XO.O", ".XO."], 1, [6], 5, "superko"),
        (["..", ".."], 1, [0, 1, 4], 0, "occupied"),
    ],
)
def test_an_illegal_move_is_refused_with_its_reason_and_changes_nothing(
    kind: Kind, stones: Sequence[str], to_play: int, moves: list[int], action: int, reason: str
) -> None:
    start = grid(*stones)
    env = GoEnv(Rules(*start.shape), kind=kind)
    before, _ = env.reset(options={"stones": start, "to_play": to_play, "moves": moves})
    with pytest.raises(IllegalMove) as refused:
        env.step(action)
    assert refused.value.reason == reason and refused.value.action == action
    after = env.seen()
    assert all((after[name] == before[name]).all() for name in before)
    for no_action in (-1, env.rules.actions):
        with pytest.raises(ValueError, match=f"action {no_action}: 0 to {env.rules.actions - 1}"):
            env.step(no_action)
    with pytest.raises(TypeError):
        env.step(2.5)  # type: ignore[arg-type]
    assert (env.seen()["planes"] == before["planes"]).all()
    env.step(env.rules.points)


def test_games_start_where_they_are_told_to() -> None:
    env = GoEnv(Rules(3, 3), kind="numpy")
    _, info = env.reset(options={"moves": [4, 0]})
    assert info["to_play"] == 1 and (env.board.stones[0] == grid("O..", ".X.", "...")).all()
    _, info = env.reset(options={"to_play": -1})
    assert info["to_play"] == -1 and not env.board.stones.any()
    stones = grid("X..", "...", "..O")
    env.reset(options={"stones": stones.tolist(), "to_play": -1, "moves": [1]})
    assert (env.board.stones[0] == grid("XO.", "...", "..O")).all() and env.board.plies[0] == 1
    for options, says in (
        ({"stones": grid("XO.", "O..", "...")}, "no liberty"),
        ({"stones": grid("XX")}, "3 x 3"),
        ({"to_play": 0}, "to_play = 0"),
        ({"moves": [9, 9]}, "end the game"),
        ({"moves": [4, 4]}, "a stone is there"),
        ({"moves": [-1]}, "action -1"),
        ({"handicap": 2}, "option 'handicap'"),
    ):
        with pytest.raises(ValueError, match=says):
            env.reset(options=options)
        assert (env.board.stones[0] == grid("XO.", "...", "..O")).all(), "the game goes on as it was"
    env.reset()
    assert not env.board.stones.any()


@pytest.mark.parametrize("make", [GoEnv, GoVectorEnv, OpponentVectorEnv])
def test_what_cannot_be_made_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="reward = 'points'"):
        make(reward="points")
    with pytest.raises(ValueError, match="komi beside `rules`"):
        make(rules=Rules(), komi=7.5)
    with pytest.raises(ValueError, match="rows = 20"):
        make(rows=20)
    with pytest.raises(ValueError, match="render_mode = 'human'"):
        GoEnv(render_mode="human")  # type: ignore[arg-type]
    for count in (0, 1 << 20):
        with pytest.raises(ValueError, match=f"num_envs = {count}"):
            GoVectorEnv(count)


# ---------------------------------------------------------------- rewards


def played(rules: Rules, reward: Reward, actions: Sequence[int]) -> tuple[GoEnv, list[float]]:
    env = GoEnv(rules, reward=reward, kind="numpy")
    env.reset()
    return env, [env.step(action)[1] for action in actions]


@pytest.mark.parametrize(
    ("komi", "actions", "black", "reward"),
    [
        (0.5, [4, 9, 9], 8.5, 1),  # Black moves last
        (9.5, [4, 9, 9], -0.5, -1),
        (9.0, [4, 9, 9], 0, 0),
        (8.5, [4, 0, 9, 9], -8.5, 1),  # White does
        (-8.5, [4, 0, 9, 9], 8.5, -1),
    ],
)
def test_the_reward_is_the_last_movers(komi: float, actions: list[int], black: float, reward: int) -> None:
    rules, nothing = Rules(3, 3, komi=komi), [0.0] * (len(actions) - 1)
    env, wins = played(rules, "win", actions)
    assert wins == [*nothing, reward]
    assert env.info()["score"] == black
    assert played(rules, "score", actions)[1] == [*nothing, reward * abs(black) / 9]


def test_a_game_that_is_cut_off_is_worth_how_the_stones_stand_or_nothing() -> None:
    rules = Rules(3, 3, komi=2.0, most_plies=3)
    for reward, worth in (("win", 0.0), ("score", (2 - 1 - 2.0) / 9), ("shaped", 1 / 9)):
        env, rewards = played(rules, reward, [4, 8, 0])  # type: ignore[arg-type]
        assert env.board.truncated[0] and not env.board.over[0]
        assert rewards[-1] == pytest.approx(worth)
        assert reward == "shaped" or rewards[:-1] == [0, 0]


def test_shaping_adds_the_change_of_the_area_to_the_win() -> None:
    _, rewards = played(Rules(3, 3, komi=3.5), "shaped", [4, 0, 2, 9, 9])
    # Black's area less White's: 9, then 1 - 1, then 2 - 1; at the end nothing
    assert rewards == pytest.approx([9 / 9, 9 / 9, 1 / 9, 0, -1 - 1 / 9])


def test_what_shaping_brings_a_player_over_a_game_is_the_win() -> None:
    random = np.random.default_rng(5)
    wins = []
    for _ in range(30):
        env = GoEnv(Rules(3, 4, komi=1.5, most_plies=60), reward="shaped", kind="numpy")
        seen, info = env.reset()
        brought = 0.0  # to Black; White's is the negative, as every reward is one's gain and the other's loss
        over = cut = False
        while not (over or cut):
            mover = info["to_play"]
            seen, reward, over, cut, info = env.step(int(chosen(seen, random)))
            brought += mover * reward
        area = (info["score"] + 1.5) / 12
        assert brought == pytest.approx(np.sign(info["score"]) if over else area)
        wins += [brought] if over else []
    assert 1 in np.round(wins, 9) and -1 in np.round(wins, 9)


# ---------------------------------------------------------------- many boards


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reward", REWARDS)
def test_many_boards_are_as_many_single_ones(kind: Kind, reward: Reward) -> None:
    """Also where they end and begin anew, and in what `info` holds."""
    rules = Rules(3, 4, komi=1.5, most_plies=20)
    single: Any = SyncVectorEnv([lambda: GoEnv(rules, reward=reward, kind=kind)] * 7)
    many = GoVectorEnv(7, rules, reward=reward, kind=kind)
    assert many.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP == single.metadata["autoreset_mode"]
    for space in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(many, space) == getattr(single, space)
    options = {"moves": [5, 2]}
    seen, info = many.reset(seed=2, options=options)
    other, other_info = single.reset(seed=2, options=options)
    random = np.random.default_rng(3)
    ends = np.zeros(2)
    for _ in range(90):
        assert seen in many.observation_space
        assert all((seen[name] == other[name]).all() for name in ("planes", "action_mask"))
        assert info.keys() == other_info.keys()
        assert all((info[name] == other_info[name]).all() for name in info)
        actions = chosen(seen, random)
        seen, *ours, info = many.step(actions)
        other, *theirs, other_info = single.step(actions)
        assert all((one == two).all() for one, two in zip(ours, theirs, strict=True))
        ends += [ours[1].sum(), ours[2].sum()]
    assert (ends > 5).all()


def test_a_refusal_on_one_of_many_boards_changes_none() -> None:
    env = gymnasium.make_vec(ID, num_envs=3, rows=3, columns=3, kind="numpy").unwrapped
    assert isinstance(env, GoVectorEnv)
    env.reset()
    env.step([9, 0, 1])
    env.step([9, 1, 2])  # the first is over, and begins anew in the next step
    before = env.seen()
    for actions, says in (([0, 8, 1], "board 2, action 1: a stone"), ([0, 8, -1], "-1"), ([0, 8, 10], "10")):
        with pytest.raises(ValueError, match=says):
            env.step(actions)
        assert all((env.seen()[name] == before[name]).all() for name in before)
    with pytest.raises(ValueError, match="shape"):
        env.step(9)
    _, rewards, over, cut, _ = env.step([-7, 8, 8])  # what is said to a board that begins does not matter
    assert env.board.plies.tolist() == [0, 3, 3] and not over.any() and not cut.any() and not rewards.any()


# ---------------------------------------------------------------- against opponents


class Recorder:
    """A policy that remembers what it saw and did."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.calls: list[tuple[Any, NDArray[np.bool_], Any]] = []

    def __call__(self, planes: Any, legal: NDArray[np.bool_], random: np.random.Generator) -> Any:
        actions = self.policy(planes, legal, random)
        self.calls.append((planes, legal, actions))
        return actions


@pytest.mark.parametrize("reward", REWARDS)
def test_the_agent_is_rewarded_for_its_own_colour_and_the_opponent_really_moves(reward: Reward) -> None:
    """One board, so that its games can be played again from what both sides did."""
    rules = Rules(3, 3, komi=1.5)
    opponent = Recorder(random_moves)
    env = OpponentVectorEnv(1, rules, reward=reward, pool=[opponent], kind="numpy")
    random = np.random.default_rng(4)
    seen, info = env.reset(seed=11)
    colours, results = [], set()
    for _ in range(24):
        board = boards(rules, 1, "numpy")
        colour = int(info["colour"][0])
        colours.append(colour)
        if colour == -1:
            board.step(opponent.calls[-1][2])
        start = board.score()[0] * colour / 9
        total, done = 0.0, False
        while not done:
            assert seen in env.observation_space and info["to_play"][0] == colour
            assert (seen["planes"][0, 0] - seen["planes"][0, 1] == board.stones[0] * colour).all()
            assert (seen["action_mask"] == board.legal).all()
            action, asked = chosen(seen, random), len(opponent.calls)
            board.step(action)
            answered = not board.done[0]
            if answered:
                theirs = observe(board)
            seen, rewards, over, cut, info = env.step(action)
            assert len(opponent.calls) == asked + answered
            if answered:
                planes, legal, answer = opponent.calls[-1]
                assert (planes == theirs).all() and (legal == board.legal).all()
                board.step(answer)
            assert (env.board.stones == board.stones).all() and env.board.plies == board.plies
            assert over == board.over and cut == board.truncated
            total += rewards[0]
            done = bool(over[0] or cut[0])
        value = float(board.value()[0]) * colour
        end = np.sign(value) if over[0] else 0
        area = board.score()[0] * colour / 9
        worth = {"win": end, "score": value / 9, "shaped": end + (0 if over[0] else area) - start}[reward]
        assert total == pytest.approx(worth) and info["score"][0] == board.value()[0]
        results.add((colour, float(np.sign(value))))
        seen, rewards, over, cut, info = env.step(np.array([-5]))  # a new game, its action ignored
        assert not rewards.any() and not over.any() and not cut.any()
    assert colours == [colours[0], -colours[0]] * 12
    assert results == {(1, 1.0), (1, -1.0), (-1, 1.0), (-1, -1.0)}


def test_a_game_ends_by_either_sides_pass() -> None:
    env = OpponentVectorEnv(2, Rules(3, 3, komi=0.5), pool=[passes], kind="numpy")
    env.reset(seed=0, options={"colour": 1})
    _, rewards, over, _, _ = env.step([9, 4])  # on the first board the opponent's pass is the second
    assert over.tolist() == [True, False] and rewards.tolist() == [-1, 0]
    assert env.board.plies.tolist() == [2, 2]
    _, rewards, over, _, info = env.step([0, 9])  # on the second the agent's own is
    assert over.tolist() == [False, True] and rewards.tolist() == [0, 1]
    assert env.board.plies.tolist() == [1, 3], "the first has begun anew with the opponent's pass as Black"
    assert info["colour"].tolist() == [-1, 1]
    _, rewards, over, _, info = env.step([9, 0])  # White's pass is the second: nobody has a stone, komi wins
    assert over.tolist() == [True, False] and rewards.tolist() == [1, 0]


def test_the_last_position_is_seen_by_the_agent_also_after_its_own_move() -> None:
    env = OpponentVectorEnv(1, Rules(3, 3, most_plies=3), pool=[first], reward="score", kind="numpy")
    env.reset(options={"colour": 1})
    env.step([4])
    seen, rewards, _, cut, _ = env.step([8])
    assert cut.all() and rewards[0] == pytest.approx((2 - 1 - 7) / 9)
    assert (seen["planes"][0, 0] == grid("...", ".X.", "..X")).all() and seen["planes"][0, 9].all()
    with pytest.raises(ValueError, match="most_plies = 1"):
        OpponentVectorEnv(1, most_plies=1, kind="numpy")
    with pytest.raises(ValueError, match="first move ends the game"):
        env.reset(options={"colour": -1, "moves": [0, 1]})


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_games(kind: Kind) -> None:
    def games(seed: int) -> list[Any]:
        env = OpponentVectorEnv(6, SMALL, pool=[random_moves, first, passes], kind=kind)
        seen, info = env.reset(seed=seed)
        random = np.random.default_rng(0)
        found = []
        for _ in range(60):
            seen, rewards, over, _, info = env.step(chosen(seen, random))
            found.append((seen["planes"].tobytes(), rewards.tolist(), over.tolist(), info["colour"].tolist()))
        return found

    assert games(1) == games(1)
    assert games(1) != games(2)


def test_a_pool_is_drawn_from_for_games_that_begin() -> None:
    old, new, other = Recorder(passes), Recorder(first), Recorder(random_moves)
    env = OpponentVectorEnv(64, Rules(3, 3), pool=[old], kind="numpy")
    env.reset(seed=0, options={"colour": 1})
    env.set_pool([new, other])
    env.step(np.where(np.arange(64) < 32, 9, 4))
    assert len(old.calls[-1][1]) == 64 and not new.calls, "games in progress keep their opponent"
    env.step(np.full(64, 3))  # half of them begin, with the agent as White
    assert len(old.calls[-1][1]) == 32
    drawn = len(new.calls[-1][1]), len(other.calls[-1][1])
    assert sum(drawn) == 32 and min(drawn) > 5
    for planes, legal, _ in (new.calls[-1], other.calls[-1]):
        assert planes.shape[1:] == (PLANES, 3, 3) and legal.all() and legal.dtype == np.bool_
    with pytest.raises(ValueError, match="the pool is empty"):
        env.set_pool([])


def test_an_opponents_mistake_is_called_its_own() -> None:
    def plays(actions: Any) -> OpponentVectorEnv:
        return OpponentVectorEnv(2, Rules(3, 3), pool=[lambda *_: actions], kind="numpy")

    for actions, says in (([4, 4], "board 0, action 4: a stone is there"), ([-1, 0], "-1"), ([0, 10], "10")):
        env = plays(actions)
        env.reset(options={"colour": 1})
        with pytest.raises(ValueError, match=f"the opponent's move: .*{says}"):
            env.step([4, 4])
    with pytest.raises(ValueError, match=r"the opponent gives the shape \(1,\) for 2 boards"):
        plays([0]).reset(options={"colour": -1})


def test_the_agents_illegal_move_changes_nothing_not_even_chance() -> None:
    env, twin = (OpponentVectorEnv(4, Rules(3, 3), kind="numpy") for _ in range(2))
    options = {"colour": 1, "moves": [4, 0]}
    before, _ = env.reset(seed=5, options=options)
    twin.reset(seed=5, options=options)
    with pytest.raises(IllegalMove, match="board 3, action 4: a stone is there"):
        env.step([1, 1, 1, 4])
    assert (env.seen()["planes"] == before["planes"]).all()
    assert (env.step([1, 2, 3, 5])[0]["planes"] == twin.step([1, 2, 3, 5])[0]["planes"]).all()
    with pytest.raises(ValueError, match="colour = 0"):
        env.reset(options={"colour": 0})


def test_info_can_be_had_as_a_list() -> None:
    env = DictInfoToList(OpponentVectorEnv(3, Rules(3, 3), pool=[passes], kind="numpy"))
    _, infos = env.reset(seed=0, options={"colour": 1})
    assert [info["colour"] for info in infos] == [1, 1, 1]
    *_, infos = env.step(np.array([9, 4, 9]))
    assert [info.get("score") for info in infos] == [-7, None, -7]


# ---------------------------------------------------------------- random moves


def test_random_moves_fill_no_eye_and_pass_only_where_nothing_is_left() -> None:
    board = boards(Rules(5, 5), 200, "numpy")
    board.set_up(0, grid(".X.X.", "XX.XX", "..X..", "XX.XX", ".X.OO"))
    board.set_up(1, grid(".X.X.", "XXXXX", "XXXXX", "XXXXX", "XXXXX"))
    board.copy([0] * 99, np.arange(2, 101))
    board.copy([1] * 99, np.arange(101, 200))
    actions = np.asarray(random_moves(observe(board), board.legal, np.random.default_rng(0)))
    assert board.legal[np.arange(200), actions].all()
    # the corners are eyes; 2 and 7 are open to each other
    assert set(actions[[0, *range(2, 101)]]) == {2, 7, 10, 11, 13, 14, 17, 22}
    assert set(actions[[1, *range(101, 200)]]) == {25}


@pytest.mark.parametrize("enemies", [0, 1, 2])
def test_an_eye_is_false_with_two_enemies_at_its_corners_and_one_at_the_border(enemies: int) -> None:
    middle, border = grid(".....", "..X..", ".X.X.", "..X..", "....."), grid(".X.X.", "..X..", ".....")
    for stones, eye, corners, false_from in (
        (middle, 12, [(1, 1), (3, 3)], 2),
        (border, 2, [(1, 1), (1, 3)], 1),
    ):
        board = boards(Rules(*stones.shape), 1, "numpy")
        for corner in corners[:enemies]:
            stones[corner] = -1
        board.set_up(0, stones)
        fills = {
            int(np.asarray(random_moves(observe(board), board.legal, np.random.default_rng(seed)))[0])
            for seed in range(300)
        }
        assert board.legal[0, eye] and (eye in fills) == (enemies >= false_from)


@pytest.mark.parametrize("size", [(5, 5), (1, 3), (2, 4), (1, 1)])
def test_random_playouts_finish(size: tuple[int, int]) -> None:
    env = GoVectorEnv(16, Rules(*size, most_plies=200), kind="numpy")
    env.reset()
    random = np.random.default_rng(0)
    ended = np.zeros(16, np.int64)
    for _ in range(200):
        planes, legal = observe(env.board), env.board.legal
        *_, over, cut, _ = env.step(random_moves(planes, legal, random))
        ended += over
        assert not cut.any()
    assert (ended >= 2).all()


# ---------------------------------------------------------------- pictures


def test_the_picture_shows_stones_in_their_places_and_marks_the_last() -> None:
    env = GoEnv(Rules(3, 4), render_mode="rgb_array", kind="numpy")
    env.reset()
    empty = env.render()
    assert empty.shape == (3 * CELL, 4 * CELL, 3) and empty.dtype == np.uint8
    env.step(6)
    black = env.render()
    env.step(8)
    white = env.render()

    def at(image: NDArray[np.uint8], row: int, column: int, beside: float = 0.0) -> tuple[int, ...]:
        """The colour in the middle of a point, or that part of a cell to its upper left."""
        shift = CELL // 2 - int(beside * CELL)
        return tuple(image[row * CELL + shift, column * CELL + shift].tolist())

    assert at(empty, 1, 2, 0.25) == WOOD
    assert at(black, 1, 2, 0.25) == STONE[1] and at(black, 1, 2) == MARK
    assert at(white, 1, 2, 0.25) == STONE[1] and at(white, 1, 2) == STONE[1]
    assert at(white, 2, 0, 0.25) == STONE[-1] and at(white, 2, 0) == MARK
    changed = (black != empty).any(2)
    assert changed.any() and not changed[:CELL].any() and not changed[:, : 2 * CELL].any()
    assert (picture(env.board.stones[0], env.rules.points) != white).any(2).sum() < 0.2 * CELL**2


def test_the_text_shows_stones_and_whose_turn_it_is() -> None:
    env = GoEnv(Rules(2, 3), render_mode="ansi", kind="numpy")
    env.reset(options={"moves": [1, 5]})
    assert env.render() == ". X .\n. . O\nX to play"
    env.step(0)
    assert env.render() == "X X .\n. . O\nO to play"
    assert GoEnv(kind="numpy").render() is None
