"""Thinking about one game, move after move: several leaves to the network at once, and the tree is kept.

The search is search.py's. In flight, between the choice of a leaf and its value, a visit is known to have
been started, and its value to be unknown: shares of visits count it, values do not (Liu et al. 2020, "Watch
the Unobserved"). The virtual loss of Chaslot, Winands and van den Herik (2008) would count a loss instead,
which values scaled as Gumbel AlphaZero scales them would take for a refutation.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import numpy as np

from workloads.go.board import Board, Rules
from workloads.go.search import Evaluate, Floats, Numbers, Search, Steps, at_least_one, schedule
from workloads.go.tree import NOWHERE

ROOT = 0


class Thought(NamedTuple):
    action: int
    value: float  # for the side to move, -1 a loss, 1 a win
    policy: Floats  # [actions], the improved policy
    tried: Steps  # [actions], visits, those kept from earlier moves included
    variation: list[int]  # the line tried most, from the action on
    visits: int  # the sum of `tried`


class Thinker:
    """One game with one tree; a players.Player whose every move is the best it knows.

    `visits` are those of the root in the end, with all that were kept: a board that the tree of the last
    thought holds, with the same past, is where the next one goes on. `seconds`: no batch of leaves begins
    later, 0 = no limit; `visits` then is the most. `together`: the leaves of a batch at most. `at_root`
    judges the roots, in place of `evaluate`; a network that learns needs a new Thinker. The same questions
    in the same order have the same answers where time does not end them. A node takes the memory of a
    board and 20 bytes an action: 11 kB at 9 x 9, 46 kB at 19 x 19. ValueError for a number out of range.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        visits: int = 200,
        considered: int = 16,
        at_root: Evaluate | None = None,
        seconds: float = 0.0,
        together: int = 8,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        at_least_one(visits=visits, considered=considered, together=together)
        self.evaluate, self.at_root, self.visits, self.considered = evaluate, at_root, visits, considered
        self.together, self.seconds, self.clock = together, duration(seconds), clock
        self.tree: Tree | None = None

    def think(
        self, board: Board, row: int, rng: np.random.Generator | None = None, seconds: float | None = None
    ) -> Thought:
        """About the side to move on board `row`. `rng` draws Gumbel noise, which makes the choice random;
        None: the best move. `seconds`: a limit of this thought; the shorter holds. ValueError where the game
        is done."""
        began = self.clock()
        if board.done[row]:
            raise ValueError(f"board {row}: its game is done, there is no move; reset it or resume the game")
        limit = min((each for each in (self.seconds, duration(seconds or 0)) if each), default=np.inf)
        if self.tree is None or self.tree.rules != board.rules:
            sizes = self.visits, self.considered, self.together
            self.tree = Tree(self.evaluate, board.rules, *sizes, self.at_root)
        noise = np.zeros((1, board.rules.actions), np.float32)
        if rng is not None:
            noise = rng.gumbel(size=noise.shape).astype(np.float32)
        try:
            self.tree.move_to(board, row)
            while self.clock() - began < limit and len(wanted := self.tree.ahead(limit < np.inf)):
                self.tree.visit(wanted, noise)
        except BaseException:  # some values will never arrive
            self.tree = None
            raise
        found = self.tree.found(self.tree.roots, noise)
        action, tried = int(found.action[0]), found.tried[0]
        line = self.tree.variation(ROOT, action)
        return Thought(action, float(found.value[0]), found.policy[0], tried, line, int(tried.sum()))

    def choose(self, board: Board, row: int, rng: np.random.Generator) -> int:
        return self.think(board, row).action


class Tree(Search):
    """Of one game. Nodes are numbered without gaps from the root, `used` of them. `plan`: how often each of
    the next actions of the root has been started, as `schedule` has it; `step`: how much of that is done."""

    def __init__(
        self,
        evaluate: Evaluate,
        rules: Rules,
        visits: int,
        considered: int,
        together: int,
        at_root: Evaluate | None,
    ) -> None:
        super().__init__(evaluate, rules, 1, visits, considered, at_root)
        self.started = np.zeros_like(self.tried)
        self.path = np.empty((together, visits + 1), np.int32)
        self.moves, self.depth = np.empty_like(self.path), np.empty(together, np.int64)
        self.numbers = np.empty(together, np.int64)  # the node that a path may become
        self.used, self.plan, self.step = 0, np.empty(0, np.int64), 0

    def move_to(self, board: Board, row: int) -> None:
        """Board `row` becomes the root, with all that is known below it. A root that is asked about again
        goes on with its plan."""
        plies, last = self.nodes.plies[: self.used], self.nodes.last[: self.used]
        alike = np.flatnonzero((plies == board.plies[row]) & (last == board.last[row]))
        alike = alike[self.nodes.same(alike, board, row)]
        if ROOT in alike:
            return
        if len(alike):
            self.keep(int(alike[0]))
            if self.at_root is not self.evaluate:
                self.judge(self.roots, self.at_root)
        else:
            self.nodes.copy([row], self.roots, board)
            self.open(self.roots, self.at_root)
            self.used = 1
        self.started[ROOT], self.plan, self.step = 0, np.empty(0, np.int64), 0

    def keep(self, node: int) -> None:
        """A node becomes the root, and all that is not below it is forgotten."""
        levels = [np.array([node])]
        while len(levels[-1]):
            below = self.child[levels[-1]]
            levels.append(below[below != NOWHERE])
        kept = np.concatenate(levels).astype(np.int64)
        places = np.arange(len(kept))
        names = np.full(self.used, NOWHERE, np.int32)
        names[kept] = places
        child = self.child[kept]
        self.child[places] = np.where(child == NOWHERE, NOWHERE, names[child])
        for numbers in (self.logits, self.tried, self.started, self.total, self.value):
            numbers[places] = numbers[kept]
        self.nodes.copy(kept, places)
        self.used = len(kept)

    def ahead(self, timed: bool) -> Numbers:
        """The next of the plan, as many as may be in flight together; empty when there are no visits left.

        A batch ends where actions are dropped, which takes all their values. Where time may end it, the whole
        halving is repeated in turns as short as can be, each with all that is known by then (Sagers, Winands
        and Soemers 2024, "Anytime Sequential Halving").
        """
        if self.step == len(self.plan):
            left = self.visits - int(self.tried[ROOT].sum())
            if not left:
                return self.plan[:0]
            wide = min(self.considered, int(self.nodes.legal[ROOT].sum()))
            self.plan, self.step = schedule(wide, min(left, one_turn(wide)) if timed else left), 0
            self.started[ROOT] = 0
        round_of = np.bincount(self.plan)[self.plan]  # how many actions are tried in the same round
        batch = slice(self.step, self.step + len(self.depth))
        return np.asarray(self.plan[batch][round_of[batch] == round_of[self.step]], np.int64)

    def visit(self, wanted: Numbers, noise: Floats) -> None:
        """One batch: the leaves that the root's next actions lead to, up to where two would be the same."""
        many = self.gather(wanted, noise)
        self.back_up(self.numbers[:many], self.path[:many], self.moves[:many], self.depth[:many])
        self.step += many

    def gather(self, wanted: Numbers, noise: Floats) -> int:
        """Starts visits, and says how many."""
        leaves = set()
        for turn in range(len(wanted)):
            one = slice(turn, turn + 1)
            self.descend(self.roots, noise, wanted[one], self.path[one], self.moves[one], self.depth[one])
            way = self.path[turn, : self.depth[turn]], self.moves[turn, : self.depth[turn]]
            leaf = int(way[0][-1]), int(way[1][-1])
            if leaf in leaves:
                return turn
            if self.child[leaf] == NOWHERE:
                leaves.add(leaf)
                self.numbers[turn] = self.used
                self.started[self.used] = 0
                self.used += 1
            self.started[way] += 1
        return len(wanted)


def one_turn(wide: int) -> int:
    """The fewest visits that halve so many actions down to one, the same number before each halving."""
    return wide * max(1, int(np.ceil(np.log2(wide))))


def duration(seconds: float) -> float:
    if not 0 <= seconds < np.inf:
        raise ValueError(f"seconds = {seconds}: 0, which sets no limit, or more are needed")
    return seconds
