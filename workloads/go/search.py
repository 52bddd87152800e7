"""Searching the games of many boards at once: one batch of positions to the network for each simulation.

Gumbel AlphaZero (Danihelka, Guez, Schrittwieser and Silver 2022): at the root sequential halving over the
actions that noise and policy put first, inside the tree tree.py's choice. Node boards are real boards with
their whole past, so that superko holds inside the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.go import tree
from workloads.go.board import Board, Rows, Rules, boards

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Steps = NDArray[np.int32]  # [N, deepest]
Evaluate = Callable[[Board, Numbers], tuple[Floats, Floats]]
"""Of the boards with these numbers: logits of all actions, float32 [n, actions], and what the side to move
may expect, float32 [n], -1 a loss, 1 a win."""


class Found(NamedTuple):
    """Of each of N searched boards."""

    action: NDArray[np.int64]  # [N], the best, -1 where the game is done
    policy: Floats  # [N, actions], the improved policy: what a network should learn
    value: Floats  # [N], for the side to move
    tried: NDArray[np.int32]  # [N, actions]


class Search:
    """`trees` games at once, `visits` simulations for each, over the `considered` most promising actions.

    `at_root` judges the roots, in place of `evaluate`. ValueError where a number is below 1. The search of
    one game does not hang on the others but for the network's rounding.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        rules: Rules,
        trees: int = 1,
        visits: int = 64,
        considered: int = 16,
        at_root: Evaluate | None = None,
    ) -> None:
        at_least_one(trees=trees, visits=visits, considered=considered)
        self.evaluate, self.at_root = evaluate, at_root or evaluate
        self.rules, self.visits, self.considered = rules, visits, considered
        many = trees * (visits + 1)
        self.nodes = boards(rules, many)
        self.roots = np.arange(trees, dtype=np.int64) * (visits + 1)
        self.logits = np.empty((many, rules.actions), np.float32)
        self.tried = np.empty((many, rules.actions), np.int32)
        self.started = self.tried  # here no value is awaited while another is sought
        self.total = np.empty((many, rules.actions), np.float32)
        self.child = np.empty((many, rules.actions), np.int32)
        self.value = np.empty(many, np.float32)

    def run(self, board: Board, rows: Rows | None = None, noise: np.random.Generator | None = None) -> Found:
        """Searches boards of the same rules, as many as there are trees at most. `noise`: draws the Gumbel
        noise that makes the choice random, as learning needs it; None: the best move."""
        chosen = np.arange(len(board)) if rows is None else np.asarray(rows, np.int64)
        if len(chosen) > len(self.roots):
            raise ValueError(f"{len(chosen)} boards for {len(self.roots)} trees")
        roots = self.roots[: len(chosen)]
        self.nodes.copy(chosen, roots, board)
        self.open(roots, self.at_root)
        gumbel = np.zeros((len(roots), self.rules.actions), np.float32)
        if noise is not None:
            gumbel = noise.gumbel(size=gumbel.shape).astype(np.float32)
        legal = self.nodes.legal[roots].sum(1)
        plan = np.stack([schedule(min(self.considered, int(many)), self.visits) for many in legal])
        path = np.empty((len(roots), self.visits + 1), np.int32)
        moves, depth = np.empty_like(path), np.empty(len(roots), np.int64)
        for turn in range(self.visits):
            self.descend(roots, gumbel, plan[:, turn], path, moves, depth)
            self.back_up(roots + 1 + turn, path, moves, depth)
        return self.found(roots, gumbel)

    def descend(
        self, roots: Numbers, noise: Floats, wanted: Numbers, path: Steps, moves: Steps, depth: Numbers
    ) -> None:
        tree.descend(
            *(self.logits, self.tried, self.started, self.total, self.child, self.value),
            *(roots, noise, wanted, path, moves, depth),
        )

    def back_up(self, numbers: Numbers, path: Steps, moves: Steps, depth: Numbers) -> None:
        """What is found at the ends of paths [N], added all the way up. No two end at the same new node."""
        tree.back_up(self.tried, self.total, path, moves, depth, self.reach(numbers, path, moves, depth))

    def reach(self, numbers: Numbers, path: Steps, moves: Steps, depth: Numbers) -> Floats:
        """Plays the last action of each path, and what the end is worth to the side to move there, [N].
        `numbers` [N]: the node that an end becomes where there is none yet."""
        trees = np.flatnonzero(depth > 0)
        parents = path[trees, depth[trees] - 1].astype(np.int64)
        actions = moves[trees, depth[trees] - 1].astype(np.int64)
        ends = self.child[parents, actions].astype(np.int64)
        fresh = ends == tree.NOWHERE
        ends[fresh] = numbers[trees[fresh]]
        self.nodes.copy(parents[fresh], ends[fresh])
        self.nodes.play(actions[fresh], ends[fresh])
        self.child[parents[fresh], actions[fresh]] = ends[fresh]
        self.open(ends[fresh], self.evaluate)
        found = np.zeros(len(depth), np.float32)
        found[trees] = self.value[ends]
        return found

    def open(self, nodes: Numbers, evaluate: Evaluate) -> None:
        """New nodes, where nothing has been tried."""
        self.tried[nodes], self.total[nodes], self.child[nodes] = 0, 0, tree.NOWHERE
        self.judge(nodes, evaluate)

    def judge(self, nodes: Numbers, evaluate: Evaluate) -> None:
        """What the judge says of nodes; where the game is done, who has won."""
        self.logits[nodes] = tree.FAR
        done = self.nodes.done[nodes]
        ended, going = nodes[done], nodes[~done]
        if len(ended):
            black = np.sign(self.nodes.value(ended))
            self.value[ended] = black * self.nodes.to_play[ended]
        if len(going):
            logits, value = evaluate(self.nodes, going)
            self.logits[going] = np.where(self.nodes.legal[going], logits, tree.FAR)
            self.value[going] = value

    def found(self, roots: Numbers, gumbel: Floats) -> Found:
        tried = self.tried[roots]
        improved, action = np.empty_like(gumbel), np.empty(len(roots), np.int64)
        tree.conclude(
            *(self.logits, self.tried, self.started, self.total, self.value),
            *(roots, gumbel, improved, action),
        )
        policy = np.exp(improved - improved.max(1, keepdims=True)) * (improved > tree.FAR)
        sums = policy.sum(1, keepdims=True)
        policy = np.divide(policy, sums, out=np.zeros_like(policy), where=sums > 0)
        count = tried.sum(1)
        value = (self.value[roots] + self.total[roots].sum(1)) / (1 + count)
        return Found(action, policy, value.astype(np.float32), tried)

    def variation(self, tree_number: int, first: int) -> list[int]:
        """The line that was tried most after the root's action `first`."""
        node, line = int(self.roots[tree_number]), []
        action = first
        while action >= 0:
            line.append(action)
            node = int(self.child[node, action])
            if node < 0 or not self.tried[node].any():
                break
            action = int(self.tried[node].argmax())
        return line


def at_least_one(**numbers: int) -> None:
    """ValueError names the first that is below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: at least 1 is needed")


def schedule(considered: int, visits: int) -> NDArray[np.int64]:
    """How often the action that the root tries next has been tried before, int64 [visits], one for each
    simulation: sequential halving (Karnin, Koren and Somekh 2013). All `considered` are tried equally often,
    then the better half of them, and so on down to two, for as long as there are simulations."""
    if considered <= 1:
        return np.arange(visits)
    phases = int(np.ceil(np.log2(considered)))
    plan: list[int] = []
    left, tried = considered, 0
    while len(plan) < visits:
        for _ in range(max(1, visits // (phases * left))):
            plan += [tried] * left
            tried += 1
        left = max(2, left // 2)
    return np.array(plan[:visits])
