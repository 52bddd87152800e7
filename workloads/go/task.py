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
    """Boards of several sizes, padded to the largest, S x S."""

    planes: Tensor  # float32 [B, PLANES, S, S]
    legal: Tensor  # bool [B, S * S + 1]
    played: Tensor  # int64 [B]
    winner: Tensor  # float32 [B], of the side to move: 1 it won, 0 it lost, 0.5 a draw
    known: Tensor  # float32 [B], 1 where the winner is known


class RecordsTask:
    """Learns the move that was played and who won. An item of a batch is a game, of which
    `records.positions` positions are drawn, each in a symmetry of its own."""

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = GoNet(config.model.width, config.model.blocks)

    def collate(self, items: Batch) -> Positions:
        rows: list[Row] = []
        wanted, turns = [], []
        for row, draw in items:
            many = min(self.config.records.positions, len(row["actions"]))
            rows.append(row)
            wanted.append(np.sort(draw.choice(len(row["actions"]), many, replace=False)))
            turns.append(draw.integers(8, size=many))
        return batch_of(rows, positions(rows, wanted), turns)

    def objectives(self) -> Sequence[Objective[Positions]]:
        return [Objective("loss", list(self.module.parameters()), self.loss)]

    def loss(self, batch: Positions) -> tuple[Tensor, float]:
        out = self.module(batch.planes)
        policy = F.cross_entropy(
            out.policy.masked_fill(~batch.legal, float("-inf")), batch.played, reduction="sum"
        )
        value = F.binary_cross_entropy_with_logits(2 * out.value, batch.winner, batch.known, reduction="sum")
        # records say nothing of ownership, and of points only at times: those heads are left as they are
        untouched = 0.0 * (out.score.sum() + out.ownership.sum())
        return policy + self.config.records.value * value + untouched, len(batch.planes)


def batch_of(rows: Sequence[Row], games: Sequence[Seen], turns: Sequence[NDArray[np.int64]]) -> Positions:
    """All positions of the games, each turned by one of the symmetries (int [k] for each game)."""
    count = sum(len(game.played) for game in games)
    most = max((int(row["size"]) for row in rows), default=1)
    planes = np.zeros((count, PLANES, most, most), np.float32)
    legal = np.zeros((count, most * most + 1), np.bool_)
    played = np.zeros(count, np.int64)
    winner, known = np.full(count, 0.5, np.float32), np.zeros(count, np.float32)
    at = 0
    for row, game, symmetry in zip(rows, games, turns, strict=True):
        size = int(row["size"])
        ways = symmetries(size, size)
        # where a point of this board stands on the padded one; the pass is last on both
        place = np.append((np.arange(size)[:, None] * most + np.arange(size)).ravel(), most * most)
        for k in range(len(game.played)):
            way = ways[symmetry[k] % len(ways)]
            planes[at, :, :size, :size] = turn(game.planes[k : k + 1], way)[0]
            legal[at, place[way]] = game.legal[k]
            played[at] = place[way[game.played[k]]]
            if row["winner"] != UNKNOWN:
                winner[at], known[at] = (1 + int(row["winner"]) * int(game.side[k])) / 2, 1
            at += 1
    return Positions(*(torch.from_numpy(each) for each in (planes, legal, played, winner, known)))
