"""Many games between two networks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workloads.go.board import BLACK, Board, Rules, boards
from workloads.go.config import Config
from workloads.go.model import GoNet, Judge
from workloads.go.openings import openings
from workloads.go.planes import observe
from workloads.go.search import Search


class Side(Protocol):
    def moves(self, board: Board, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """An action for each of the boards `rows`."""
        ...


class Searcher:
    """Plays the best moves that a search finds, without noise; 0 visits: the likeliest by the network."""

    def __init__(self, judge: Judge, rules: Rules, count: int, visits: int, considered: int) -> None:
        self.judge = judge
        self.search = Search(judge, rules, count, visits, considered) if visits else None

    def moves(self, board: Board, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.search is not None:
            return self.search.run(board, rows).action
        logits, _ = self.judge(board, rows)
        return np.asarray(np.where(board.legal[rows], logits, -np.inf).argmax(1), np.int64)


def begun(rules: Rules, starts: Sequence[Sequence[int]]) -> Board:
    """Each opening on two boards, one after the other."""
    board = boards(rules, 2 * len(starts))
    for row in range(len(board)):
        for action in starts[row // 2]:
            board.play(np.array([action]), [row])
    return board


def play(one: Side, other: Side, board: Board) -> NDArray[np.float64]:
    """The games on the boards to their end, `one` as Black on every other: what came of them for `one`, [N]
    of 1, 0.5 and 0."""
    colour = np.where(np.arange(len(board)) % 2 == 0, BLACK, -BLACK)
    while not board.done.all():
        actions = np.full(len(board), -1, np.int64)
        for side, mine in ((one, True), (other, False)):
            rows = np.flatnonzero(~board.done & ((board.to_play == colour) == mine))
            if len(rows):
                actions[rows] = side.moves(board, rows)
        board.step(actions)
    return np.asarray((1 + np.sign(board.value()) * colour) / 2, np.float64)


def rated(
    config: Config, weights: Mapping[str, Tensor], past: Sequence[Mapping[str, Tensor]], seed: int
) -> list[tuple[float, int]]:
    """Of games against each of `past`, as many openings as an evaluation has, with both colours: the share
    won, and the games. Komi is what the two networks together think fair: otherwise the opening decides."""
    data, play_ = config.data, config.play
    rules = Rules(data.size, data.size, 0.0)
    starts = openings(rules, data.matches, seed)
    mine, *others = (
        Searcher(Judge(loaded(config, each)), rules, 2 * len(starts), play_.judged, play_.considered)
        for each in (weights, *past)
    )
    found = []
    for other in others:
        board = begun(rules, starts)
        seen = observe(board)
        points = sum(each.judge.outputs(seen).score for each in (mine, other)) / 2
        board.komi[:] = np.clip(np.rint(points * board.to_play), -rules.points, rules.points)
        found.append((float(play(mine, other, board).mean()), len(board)))
    return found


def loaded(config: Config, weights: Mapping[str, Tensor]) -> GoNet:
    """The network with these weights, for use."""
    module = GoNet(config.model.width, config.model.blocks)
    module.load_state_dict(dict(weights))
    return module.float().eval().requires_grad_(False)
