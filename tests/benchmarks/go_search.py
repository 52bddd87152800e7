"""What a search costs beside its network: `workloads.go.search` against the network alone.

`python tests/benchmarks/go_search.py` prints as JSON which share of the evaluations a second that the network
reaches on its own, in batches of as many positions, arrive in the trees: planes, trees, boards and all.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from penstock.benchmarks.pairs import compare
from workloads.go.board import Board, Rules, boards
from workloads.go.model import GoNet, Judge
from workloads.go.planes import observe
from workloads.go.search import Search


def played(rules: Rules, count: int, plies: int) -> Board:
    """Positions of random games, a seed for all."""
    draw, board = np.random.default_rng(0), boards(rules, count)
    for _ in range(plies):
        wishes = np.where(board.legal, draw.random(board.legal.shape), -1.0)
        wishes[:, -1] = np.where(board.legal[:, :-1].any(1), -1.0, wishes[:, -1])
        board.step(np.where(board.done, -1, wishes.argmax(1)))
    return board


def main() -> None:
    words = argparse.ArgumentParser(description="Evaluations in the tree, as a share of the network's.")
    words.add_argument("--size", type=int, default=9)
    words.add_argument("--games", type=int, default=512)
    words.add_argument("--visits", type=int, default=32)
    words.add_argument("--width", type=int, default=32)
    words.add_argument("--blocks", type=int, default=4)
    words.add_argument("--pairs", type=int, default=10)
    asked = words.parse_args()
    torch.manual_seed(0)
    judge = Judge(GoNet(asked.width, asked.blocks).eval())
    board = played(Rules(asked.size, asked.size), asked.games, 20)
    search = Search(judge, board.rules, asked.games, asked.visits)
    planes = observe(board)
    batches = asked.visits + 1  # the roots are evaluated, too

    def searched() -> float:
        start = time.perf_counter()
        search.run(board)
        return time.perf_counter() - start

    def alone() -> float:
        start = time.perf_counter()
        for _ in range(batches):
            judge.ask(planes)
        return time.perf_counter() - start

    searched(), alone()  # compiled and warm
    ratio = compare(
        "evaluations a second in the tree",
        "the network alone",
        alone,
        searched,
        pairs=asked.pairs,
        unit="s",
    )
    print(json.dumps(ratio.to_json() | {"evaluations": batches * asked.games}))


if __name__ == "__main__":
    main()
