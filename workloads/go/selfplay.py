"""Games of a network against itself, many at once, and what is to be learned from them.

A game begins with a few random moves and a komi that the network thinks nearly fair, so that who moves well
decides. At each ply all games are searched alike: at some in full, and from these is learned, else a little,
to bring the games to an end (playout cap randomisation, Wu 2019, §3.1). Gumbel noise at the root varies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from penstock.agents import Experience
from workloads.go.board import Rules, boards
from workloads.go.config import Zero
from workloads.go.model import Judge
from workloads.go.planes import observe
from workloads.go.players import useful
from workloads.go.search import Search


@dataclass
class Game:
    """What was searched in full in one game, ply by ply."""

    planes: list[NDArray[np.uint8]] = field(default_factory=list)
    komi: list[float] = field(default_factory=list)
    policy: list[NDArray[np.float16]] = field(default_factory=list)
    side: list[int] = field(default_factory=list)


class SelfPlayer:
    """`zero.boards` games under way (penstock.agents.Actor). The module is not copied: it plays with the
    weights that it has."""

    def __init__(self, zero: Zero, module: nn.Module, seed: Sequence[int]) -> None:
        self.zero, self.judge = zero, Judge(module, str(next(module.parameters()).device))
        self.rng = np.random.default_rng(np.random.SeedSequence(list(seed)))
        self.size = 0

    def play(self, done: float) -> Experience:
        """`zero.plies` moves in every game; the rows are of the games that ended."""
        size = self.size_at(done)
        if size != self.size:
            self.start_on(size)
        ended: list[dict[str, NDArray[Any]]] = []
        facts = {"games": 0.0, "plies": 0.0, "black": 0.0, "cut": 0.0}
        for _ in range(self.zero.plies):
            self.move()
            done_now = np.flatnonzero(self.board.done)
            if not len(done_now):
                continue
            facts["games"] += len(done_now)
            facts["plies"] += float(self.board.plies[done_now].sum())
            facts["black"] += float((np.sign(self.board.value(done_now)) + 1).sum() / 2)
            facts["cut"] += float(self.board.truncated[done_now].sum())
            ended += [rows for rows in self.rows(done_now) if rows]
            self.begin(done_now)
        columns = {name: np.concatenate([rows[name] for rows in ended]) for name in ended[0]} if ended else {}
        return Experience(f"{size}x{size}", columns, facts)

    def size_at(self, done: float) -> int:
        """The board that is learned at this point of the run."""
        edges = np.cumsum(self.zero.shares)[:-1]
        return self.zero.sizes[int(np.searchsorted(edges, done, side="right"))]

    def start_on(self, size: int) -> None:
        self.size = size
        rules = Rules(size, size, 0.0)
        count, considered = self.zero.boards, self.zero.considered
        self.board = boards(rules, count)
        self.games = [Game() for _ in range(count)]
        self.full = Search(self.judge, rules, count, self.zero.visits, considered)
        self.fast = Search(self.judge, rules, count, self.zero.fast, considered)
        self.begin(np.arange(count))

    def begin(self, rows: NDArray[np.int64]) -> None:
        """New games on boards `rows`: some random moves, and then a komi."""
        board, rng = self.board, self.rng
        board.reset(rows)
        for row in rows.tolist():
            self.games[row] = Game()
        plies = rng.integers(self.zero.opening + 1, size=len(rows))
        for ply in range(int(plies.max(initial=0))):
            going = rows[(plies > ply) & ~board.done[rows]]
            own = board.stones[going] * board.to_play[going][:, None, None]
            wished = useful(own == 1, own == -1, board.legal[going])
            going, wished = going[wished.any(1)], wished[wished.any(1)]
            board.play((wished * (1 - rng.random(wished.shape))).argmax(1), going)
        board.komi[rows] = 0
        black = self.judge.outputs(observe(board, rows)).score * board.to_play[rows]
        points = board.rules.points
        komi = np.rint(black + self.zero.spread * rng.standard_normal(len(rows)))
        board.komi[rows] = np.clip(komi, -points, points)

    def move(self) -> None:
        """One in every game."""
        full = self.rng.random() < self.zero.full
        found = (self.full if full else self.fast).run(self.board, noise=self.rng)
        if full:
            planes = observe(self.board)
            komi = planes[:, -1, 0, 0]
            bits = planes[:, :-1].astype(np.uint8)
            policy = found.policy.astype(np.float16)
            for row, game in enumerate(self.games):
                game.planes.append(bits[row])
                game.komi.append(float(komi[row]))
                game.policy.append(policy[row])
                game.side.append(int(self.board.to_play[row]))
        self.board.play(found.action)

    def rows(self, ended: NDArray[np.int64]) -> list[dict[str, NDArray[Any]]]:
        """What is learned of games that have ended, a dict for each: `planes` uint8 [n, PLANES - 1, size,
        size] and `komi` float32 [n], as `observe` has them; `policy` float16 [n, actions]; and as the side to
        move sees them, `value` int8 [n], `score` float32 [n] in points, `ownership` int8 [n, size, size]."""
        owned, points = self.board.ownership(ended), self.board.value(ended)
        found: list[dict[str, NDArray[Any]]] = []
        for place, row in enumerate(ended.tolist()):
            game = self.games[row]
            side = np.array(game.side, np.int8)
            if not len(side):
                found.append({})
                continue
            found.append(
                {
                    "planes": np.stack(game.planes),
                    "komi": np.array(game.komi, np.float32),
                    "policy": np.stack(game.policy),
                    "value": (side * np.sign(points[place])).astype(np.int8),
                    "score": (side * points[place]).astype(np.float32),
                    "ownership": side[:, None, None] * owned[place],
                }
            )
        return found
