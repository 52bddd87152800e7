"""What a training worker holds when it learns from records: the network, positions as batches, one loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from penstock.workload import Batch, Objective, Row, Schema
from workloads.go.config import Config
from workloads.go.games import UNKNOWN, Seen, positions
from workloads.go.model import GoNet
from workloads.go.planes import PLANES
from workloads.go.symmetries import symmetries, turn


class Positions(NamedTuple):
    """Boards of one size."""

    planes: Tensor  # float32 [B, PLANES, size, size]
    legal: Tensor  # bool [B, actions]
    played: Tensor  # int64 [B]
    winner: Tensor  # float32 [B], of the side to move: 1 it won, 0 it lost, 0.5 a draw
    known: Tensor  # float32 [B], 1 where the winner is known


class RecordsTask:
    """Learns the move that was played and who won. An item of a batch is a game, of which
    `records.positions` positions are drawn, each in a symmetry of its own; the boards of each size stand
    together."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = GoNet(config.model.width, config.model.blocks)

    def collate(self, items: Batch) -> list[Positions]:
        rows: list[Row] = []
        wanted, turns = [], []
        for row, draw in items:
            many = min(self.config.records.positions, len(row["actions"]))
            rows.append(row)
            wanted.append(np.sort(draw.choice(len(row["actions"]), many, replace=False)))
            turns.append(draw.integers(8, size=many))
        games = positions(rows, wanted)
        # of nothing, still something that asks for every weight
        sizes = sorted({int(row["size"]) for row in rows}) or [1]
        return [
            batch_of(size, [each for each in zip(rows, games, turns, strict=True) if each[0]["size"] == size])
            for size in sizes
        ]

    def objectives(self) -> Sequence[Objective[list[Positions]]]:
        return [Objective("loss", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Sequence[Positions]) -> tuple[Tensor, float]:
        losses = torch.stack([self.sum_of(each) for each in batch])
        return losses.sum(), sum(len(each.planes) for each in batch)

    def sum_of(self, batch: Positions) -> Tensor:
        """Over its positions."""
        out = self.module(batch.planes)
        policy = F.cross_entropy(
            out.policy.masked_fill(~batch.legal, float("-inf")), batch.played, reduction="sum"
        )
        value = F.binary_cross_entropy_with_logits(2 * out.value, batch.winner, batch.known, reduction="sum")
        # records say nothing of ownership, and of points only at times: those heads are left as they are
        untouched = 0.0 * (out.score.sum() + out.ownership.sum())
        total: Tensor = policy + self.config.records.value * value + untouched
        return total


def batch_of(size: int, games: Sequence[tuple[Row, Seen, NDArray[np.int64]]]) -> Positions:
    """All positions of games on boards of that size, each turned by its symmetry (int [k] a game)."""
    ways = symmetries(size, size)
    planes: list[NDArray[np.float32]] = []
    legal: list[NDArray[np.bool_]] = []
    played, winner, known = [], [], []
    for row, game, symmetry in games:
        for k in range(len(game.played)):
            way = ways[symmetry[k] % len(ways)]
            planes.append(turn(game.planes[k : k + 1], way)[0])
            turned = np.empty_like(game.legal[k])
            turned[way] = game.legal[k]
            legal.append(turned)
            played.append(int(way[game.played[k]]))
            told = row["winner"] != UNKNOWN
            winner.append((1 + int(row["winner"]) * int(game.side[k])) / 2 if told else 0.5)
            known.append(float(told))
    count = len(planes)
    return Positions(
        torch.from_numpy(np.array(planes, np.float32).reshape(count, PLANES, size, size)),
        torch.from_numpy(np.array(legal, np.bool_).reshape(count, size * size + 1)),
        torch.tensor(played, dtype=torch.int64),
        torch.tensor(winner, dtype=torch.float32),
        torch.tensor(known, dtype=torch.float32),
    )
