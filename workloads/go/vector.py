"""Go for gymnasium on many boards at once: both colours played by the caller, or one against opponents.

Observations, actions and rewards are those of workloads.go.env. A board that is done begins anew in the next
step, which ignores its action and rewards it with 0 (AutoresetMode.NEXT_STEP).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from workloads.go.board import Kind, Rules, boards
from workloads.go.env import Observation, Reward, Rewards, known, opening, play, settled, spaces_of
from workloads.go.planes import Planes, observe
from workloads.go.players import useful

MOST = 1 << 16  # boards
Flags = NDArray[np.bool_]
Actions = NDArray[np.int64]
Policy = Callable[[Planes, Flags, np.random.Generator], ArrayLike]
"""(planes [n, PLANES, rows, columns], legal [n, actions], a source of chance) -> an action each, [n]."""
Step = tuple[Observation, Rewards, Flags, Flags, dict[str, Any]]


class GoVectorEnv(VectorEnv[Observation, Actions, NDArray[Any]]):
    """`num_envs` boards. `info` holds "to_play" int8 [N], "action_mask" int8 [N, actions], and when games
    have ended their "score" float32 [N], as that of `GoEnv`; "_score" bool [N] says whose it is, "_to_play"
    and "_action_mask" are true everywhere."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - gymnasium's own

    def __init__(
        self,
        num_envs: int = 1,
        rules: Rules | None = None,
        *,
        reward: Reward = "win",
        kind: Kind = "numba",
        **rule: Any,
    ) -> None:
        if not 1 <= num_envs <= MOST:
            raise ValueError(f"num_envs = {num_envs}: 1 to {MOST} boards are possible")
        self.num_envs, self.kind = num_envs, kind
        self.rules, self.reward = settled(rules, rule), known(reward)
        self.single_observation_space, self.single_action_space = spaces_of(self.rules)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.board = boards(self.rules, num_envs, kind)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """`options`: as `opening` takes them, for these games on all boards and not for those that follow."""
        super().reset(seed=seed)
        start = opening(self.rules, self.kind, options)
        self.board.copy(np.zeros(self.num_envs, np.int64), np.arange(self.num_envs), start)
        return self.seen(), self.info()

    def step(self, actions: ArrayLike) -> Step:
        """IllegalMove with its reason, ValueError for what is no action: no board is changed then."""
        done = self.board.done
        rewards = play(self.board, actions, self.reward, idle=done)
        self.board.reset(np.flatnonzero(done))
        return self.stepped(rewards)

    def stepped(self, rewards: Rewards) -> Step:
        return self.seen(), rewards, self.board.over.copy(), self.board.truncated.copy(), self.info()

    def seen(self) -> Observation:
        return {"planes": observe(self.board), "action_mask": self.board.legal.astype(np.int8)}

    def info(self) -> dict[str, Any]:
        done = self.board.done
        info = {"to_play": self.board.to_play.copy(), "action_mask": self.board.legal.astype(np.int8)}
        masks: dict[str, Any] = {f"_{name}": np.ones(self.num_envs, np.bool_) for name in info}
        if not done.any():
            return info | masks
        return info | masks | {"score": np.where(done, self.board.value(), np.float32(0)), "_score": done}


class OpponentVectorEnv(GoVectorEnv):
    """The agent plays one colour on each board, drawn for the first game and then changing; the opponent, one
    of the pool drawn for each game, answers within `step`. Planes are the agent's view, also when its own
    move was the last; a reward is that of its ply less that of the answer. With `reward="shaped"` a game's F
    add to -phi of the first position the agent sees. `info` also holds "colour" int8 [N], the agent's."""

    def __init__(
        self,
        num_envs: int = 1,
        rules: Rules | None = None,
        *,
        pool: Sequence[Policy] | None = None,
        reward: Reward = "win",
        kind: Kind = "numba",
        **rule: Any,
    ) -> None:
        super().__init__(num_envs, rules, reward=reward, kind=kind, **rule)
        if self.rules.cap < 2:
            raise ValueError(f"most_plies = {self.rules.cap}: both sides need one, 2 at least")
        self.colour = np.ones(num_envs, np.int8)
        self.set_pool([random_moves] if pool is None else pool)
        self.opponents = [self.pool[0]] * num_envs

    def set_pool(self, pool: Sequence[Policy]) -> None:
        """Who is drawn for games that begin from now on. ValueError where it is nobody."""
        if not pool:
            raise ValueError("the pool is empty: an opponent is needed")
        self.pool = list(pool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The same `seed` and actions give the same games. `options` also: "colour" 1 or -1, the agent's on
        all boards. ValueError also where the opponent's first move ends the game."""
        wanted = dict(options or {})
        colour = wanted.pop("colour", None)
        if colour not in (None, 1, -1):
            raise ValueError(f"colour = {colour!r}: 1 (black) or -1 (white) are possible")
        super().reset(seed=seed, options=wanted)
        drawn = self.np_random.choice(np.array([1, -1], np.int8), self.num_envs)
        self.colour[:] = drawn if colour is None else colour
        self.draw(np.arange(self.num_envs))
        self.answer()
        if self.board.done.any():
            raise ValueError("the opponent's first move ends the game: start from fewer moves")
        return self.seen(), self.info()

    def step(self, actions: ArrayLike) -> Step:
        """As for `GoVectorEnv`; ValueError where the opponent's action may not be played: `reset` then."""
        fresh = self.board.done
        rewards = play(self.board, actions, self.reward, idle=fresh)
        begun = np.flatnonzero(fresh)
        self.board.reset(begun)
        self.colour[begun] *= -1
        self.draw(begun)
        rewards -= self.answer()
        return self.stepped(np.where(fresh, 0.0, rewards))

    def draw(self, rows: NDArray[np.int64]) -> None:
        """Opponents for the games that begin on boards `rows`."""
        for row, number in zip(rows, self.np_random.integers(len(self.pool), size=len(rows)), strict=True):
            self.opponents[row] = self.pool[number]

    def answer(self) -> Rewards:
        """The opponents' moves wherever it is their turn, and their rewards."""
        waiting = np.flatnonzero(~self.board.done & (self.board.to_play != self.colour))
        turns: dict[int, list[int]] = {}
        for row in waiting.tolist():
            turns.setdefault(id(self.opponents[row]), []).append(row)
        actions = np.full(self.num_envs, -1, np.int64)
        for rows in turns.values():
            given = self.opponents[rows[0]](observe(self.board, rows), self.board.legal[rows], self.np_random)
            chosen = np.asarray(given).astype(np.int64, casting="same_kind")
            if chosen.shape != (len(rows),):
                raise ValueError(f"the opponent gives the shape {chosen.shape} for {len(rows)} boards")
            actions[rows] = chosen
        idle = np.ones(self.num_envs, np.bool_)
        idle[waiting] = False
        try:
            return play(self.board, actions, self.reward, idle)
        except ValueError as refused:
            raise ValueError(f"the opponent's move: {refused}") from refused

    def seen(self) -> Observation:
        planes = observe(self.board, view=self.colour)
        return {"planes": planes, "action_mask": self.board.legal.astype(np.int8)}

    def info(self) -> dict[str, Any]:
        everywhere = np.ones(self.num_envs, np.bool_)
        return super().info() | {"colour": self.colour.copy(), "_colour": everywhere}


def random_moves(planes: Planes, legal: Flags, random: np.random.Generator) -> Actions:
    """Uniformly a legal move that fills no eye of its own (players.useful); a pass where there is none."""
    moves = useful(planes[:, 0] == 1, planes[:, 1] == 1, legal)
    wished = np.concatenate([moves, ~moves.any(1, keepdims=True)], 1)
    return np.asarray(((1 - random.random(wished.shape)) * wished).argmax(1), np.int64)
