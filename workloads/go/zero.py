"""What learns from self-play with search (Gumbel AlphaZero): the network, its loss, its players."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from penstock.agents import Plan
from penstock.workload import Schema
from workloads.go.arena import rated
from workloads.go.config import Config
from workloads.go.model import SCORE, GoNet
from workloads.go.planes import PLANES
from workloads.go.selfplay import SelfPlayer
from workloads.go.symmetries import symmetries

Rows = Mapping[str, NDArray[Any]]


class ZeroTask:
    """Trainer `zero` (penstock.agents.SelfPlay)."""

    learns: ClassVar[Literal["self-play"]] = "self-play"

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = GoNet(config.model.width, config.model.blocks)
        zero = config.zero
        self.plan = Plan(
            iterations=zero.iterations,
            minutes=zero.minutes,
            batch=config.train.batch,
            learners=zero.learners,
            rate_every=zero.rate_every,
            capacity=zero.capacity,
            reuse=zero.reuse,
        )

    def actor(self, seed: Sequence[int]) -> SelfPlayer:
        return SelfPlayer(self.config.zero, self.module, seed)

    def rate(
        self, weights: Mapping[str, Tensor], past: Sequence[Mapping[str, Tensor]], seed: int
    ) -> list[tuple[float, int]]:
        return rated(self.config, weights, past, seed)

    def batch(self, rows: Rows, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Each position in a symmetry of its own."""
        planes = rows["planes"]
        count, _, size, _ = planes.shape
        ways = symmetries(size, size)
        way = ways[rng.integers(len(ways), size=count)]  # [n, actions]: where each action goes
        back = np.argsort(way, 1)  # [n, actions]: what comes to each place
        seen = np.empty((count, PLANES, size * size), np.float32)
        flat = planes.reshape(count, PLANES - 1, -1)
        seen[:, : PLANES - 1] = np.take_along_axis(flat, back[:, None, :-1], 2)
        seen[:, PLANES - 1] = rows["komi"][:, None]
        owned = np.take_along_axis(rows["ownership"].reshape(count, -1), back[:, :-1], 1)
        return {
            "planes": seen.reshape(count, PLANES, size, size),
            "policy": np.take_along_axis(rows["policy"], back, 1).astype(np.float32),
            "value": rows["value"].astype(np.float32),
            "score": rows["score"].astype(np.float32),
            "ownership": owned.reshape(count, size, size).astype(np.float32),
        }

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropies of the searched policy, of who won, and of whose each point was; of the points
        ahead, which stray far at times, Huber's loss."""
        planes = batch["planes"]
        out = self.module(planes)
        policy = -(batch["policy"] * torch.log_softmax(out.policy, 1)).sum(1).mean()
        value = F.binary_cross_entropy_with_logits(2 * out.value, (batch["value"] + 1) / 2)
        ownership = F.binary_cross_entropy_with_logits(2 * out.ownership, (batch["ownership"] + 1) / 2)
        score = F.huber_loss(out.score, batch["score"] / SCORE)
        zero = self.config.zero
        loss = policy + value + zero.ownership * ownership + zero.score * score
        return {"loss": loss, "policy": policy, "value": value, "ownership": ownership, "score": score}
