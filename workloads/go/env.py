"""Go for gymnasium: one board, both colours played by the caller in turn. `gymnasium.make("penstock/Go-v0",
rows=9, columns=9, komi=7.0)` once this module is imported.

Observation: {"planes": float32 [PLANES, rows, columns] (workloads.go.planes), "action_mask": int8 [actions]},
both of the side to move. Actions: every point, row by row from the top left, then the pass. A game that two
passes end is terminated, one that the cap on plies ends truncated.

A reward is the mover's and the opponent's is its negative: what a game brought a player is the sum of its own
rewards less the opponent's. `reward`:

"win": 1, -1 or (komi and points alike) 0 when the game is over. 0 where it is cut off.
"score": the mover's points less the enemy's, komi counted, divided by the points of the board, when the game
    is over; as the stones stand where it is cut off.
"shaped": "win", and at every ply F = gamma phi(s') - phi(s) with gamma = 1 (Ng, Harada and Russell 1999).
    phi(s) is the mover's area less the enemy's, without komi, divided by the points of the board, and 0 where
    the game is over; a cut-off ends nothing, so phi stays. From the empty board to two passes what the F of a
    game bring a player is 0.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from workloads.go.board import BLACK, WHITE, Board, Kind, Rules, boards
from workloads.go.drawing import picture, text
from workloads.go.planes import KOMI, PLANES, observe

Reward = Literal["win", "score", "shaped"]
Observation = dict[str, NDArray[Any]]
Rewards = NDArray[np.float64]
OPTIONS = {"stones", "to_play", "moves"}


class GoEnv(gymnasium.Env[Observation, np.int64]):
    """`rules`, or their fields as keywords. `info`: "to_play" 1 or -1, "action_mask" as in the observation,
    and at the end "score": Black's points less White's, komi counted."""

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 - gymnasium's own

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        reward: Reward = "win",
        render_mode: Literal["ansi", "rgb_array"] | None = None,
        kind: Kind = "numba",
        **rule: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode = {render_mode!r}: ansi, rgb_array or None are possible")
        self.rules, self.reward, self.kind = settled(rules, rule), known(reward), kind
        self.render_mode = render_mode
        self.observation_space, self.action_space = spaces_of(self.rules)
        self.board = boards(self.rules, 1, kind)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """`options`: as `opening` takes them. Nothing is drawn from `seed`: Go has no chance."""
        super().reset(seed=seed)
        self.board.copy([0], [0], opening(self.rules, self.kind, options))
        return self.seen(), self.info()

    def step(self, action: int | np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """IllegalMove with its reason, ValueError for no action at all: nothing is played then."""
        reward = play(self.board, np.array([action]), self.reward)
        over, truncated = bool(self.board.over[0]), bool(self.board.truncated[0])
        return self.seen(), float(reward[0]), over, truncated, self.info()

    def seen(self) -> Observation:
        return {"planes": observe(self.board)[0], "action_mask": self.board.legal[0].astype(np.int8)}

    def info(self) -> dict[str, Any]:
        info = {"to_play": int(self.board.to_play[0]), "action_mask": self.board.legal[0].astype(np.int8)}
        return info | {"score": float(self.board.value()[0])} if self.board.done[0] else info

    def render(self) -> Any:
        """A str, uint8 [high, wide, 3], or None, by `render_mode`."""
        if self.render_mode == "ansi":
            return text(self.board.stones[0], int(self.board.to_play[0]))
        if self.render_mode == "rgb_array":
            return picture(self.board.stones[0], int(self.board.last[0]))
        return None


# ---------------------------------------------------------------- what all environments of Go share


def play(board: Board, actions: ArrayLike, reward: Reward, idle: NDArray[np.bool_] | None = None) -> Rewards:
    """One action on each board that is not `idle` [N]; the movers' rewards, 0 where idle. IllegalMove and
    ValueError as `Board.step` raises them, and for negative actions."""
    wanted = np.asarray(actions).astype(np.int64, casting="same_kind")
    if wanted.shape != board.to_play.shape:
        raise ValueError(f"actions have the shape {wanted.shape}; one for each of {len(board)} boards")
    moving = np.ones(len(board), np.bool_) if idle is None else ~idle
    outside = moving & (wanted < 0)
    if outside.any():
        raise ValueError(f"action {wanted[outside][0]}: 0 to {board.rules.actions - 1} are possible")
    mover, before = board.to_play.copy(), potential(board, reward)
    board.step(np.where(moving, wanted, -1))
    gained = payoff(board, reward) + potential(board, reward) - before
    return np.where(moving, mover * gained, 0.0)


def payoff(board: Board, reward: Reward) -> Rewards:
    """What the end of the game is worth to Black, 0 on boards that go on, [N]."""
    paid = board.done if reward == "score" else board.over
    if not paid.any():
        return np.zeros(len(board))
    value = board.value().astype(np.float64)
    return np.where(paid, value / board.rules.points if reward == "score" else np.sign(value), 0.0)


def potential(board: Board, reward: Reward) -> Rewards:
    """phi for Black, [N]; 0 where the reward is not shaped."""
    if reward != "shaped":
        return np.zeros(len(board))
    return np.where(board.over, 0.0, board.score() / board.rules.points)


def opening(rules: Rules, kind: Kind, options: dict[str, Any] | None) -> Board:
    """A board to start from. `options`: "stones" [rows, columns] of 1, -1 and 0, "to_play" 1 or -1, "moves" a
    list of actions played from there. ValueError where they cannot be or end the game; IllegalMove."""
    wanted = options or {}
    for name in wanted.keys() - OPTIONS:
        raise ValueError(f"option {name!r}: {', '.join(sorted(OPTIONS))} are possible")
    board = boards(rules, 1, kind)
    to_play = wanted.get("to_play", BLACK)
    if to_play not in (BLACK, WHITE):
        raise ValueError(f"to_play = {to_play!r}: 1 (black) or -1 (white) are possible")
    if "stones" in wanted or to_play == WHITE:
        stones = np.asarray(wanted.get("stones", np.zeros((rules.rows, rules.columns))))
        board.set_up(0, stones.astype(np.int8), int(to_play))
    for action in wanted.get("moves", ()):
        play(board, [action], "win")
    if board.done[0]:
        raise ValueError(f"{len(wanted['moves'])} moves to start from: they end the game")
    return board


def settled(rules: Rules | None, rule: dict[str, Any]) -> Rules:
    if rules is not None and rule:
        raise ValueError(f"{sorted(rule)[0]} beside `rules`: give the one or the other")
    return rules or Rules(**rule)


def known(reward: Reward) -> Reward:
    if reward not in get_args(Reward):
        raise ValueError(f"reward = {reward!r}: {', '.join(get_args(Reward))} are possible")
    return reward


def spaces_of(rules: Rules) -> tuple[spaces.Dict, spaces.Discrete[np.int64]]:
    """Of the observation and the action of one board."""
    komi = abs(rules.komi) / KOMI
    shape = (PLANES, rules.rows, rules.columns)
    planes = spaces.Box(-komi, max(1.0, komi), shape, np.float32)
    mask = spaces.Box(0, 1, (rules.actions,), np.int8)
    return spaces.Dict({"planes": planes, "action_mask": mask}), spaces.Discrete(rules.actions)


gymnasium.register(
    "penstock/Go-v0",
    entry_point="workloads.go.env:GoEnv",
    vector_entry_point="workloads.go.vector:GoVectorEnv",
)
