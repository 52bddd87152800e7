"""What learns by policy gradients, the baseline beside zero: the same network, against a pool of past
selves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.agents import Plan
from penstock.workload import Schema
from workloads.go.arena import loaded, rated
from workloads.go.board import Rules
from workloads.go.config import Config
from workloads.go.model import GoNet
from workloads.go.vector import OpponentVectorEnv, Policy, random_moves

NEVER = -1e9  # the logit of what may not be played


class PpoTask:
    """Trainer `ppo` (penstock.agents.PolicyGradient): the agent plays one colour, the opponent answers inside
    the environment, and the reward is who has won."""

    learns: ClassVar[Literal["environment"]] = "environment"

    def __init__(self, config: Config, schema: Schema) -> None:
        self.config = config
        self.module = GoNet(config.model.width, config.model.blocks)
        ppo = config.ppo
        self.plan = Plan(
            iterations=ppo.iterations,
            minutes=ppo.minutes,
            batch=config.train.batch,
            rate_every=ppo.rate_every,
            environments=ppo.boards,
            steps=ppo.plies,
            pool=ppo.pool,
            pool_every=ppo.pool_every,
        )
        self.ppo: Mapping[str, Any] = {
            "gamma": 1.0,
            "lambda_": ppo.gae,
            "clip_param": ppo.clip,
            "entropy_coeff": ppo.entropy,
            "num_epochs": ppo.epochs,
            "vf_clip_param": 4.0,  # squared errors of values of -1 to 1 go up to there
            "use_kl_loss": False,
        }

    def environment(self, count: int) -> OpponentVectorEnv:
        data = self.config.data
        return OpponentVectorEnv(count, Rules(data.size, data.size, data.komi))

    def pool(self, environment: OpponentVectorEnv, past: Sequence[Mapping[str, Tensor]]) -> None:
        selves = [opponent(loaded(self.config, weights)) for weights in past]
        environment.set_pool([random_moves, *selves])

    def act(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        out = self.module(observation["planes"])
        # scores and ownership are not learned here; data parallelism wants every weight in the loss
        unused = 0.0 * (out.score + out.ownership.sum((1, 2)))
        return out.policy.masked_fill(observation["action_mask"] == 0, NEVER), out.value.tanh() + unused

    def rate(
        self, weights: Mapping[str, Tensor], past: Sequence[Mapping[str, Tensor]], seed: int
    ) -> list[tuple[float, int]]:
        return rated(self.config, weights, past, seed)


def opponent(module: GoNet) -> Policy:
    """Draws moves by the network's probabilities."""

    def choose(planes: NDArray[np.float32], legal: NDArray[np.bool_], rng: np.random.Generator) -> Any:
        with torch.inference_mode():
            logits = module(torch.from_numpy(planes)).policy.numpy()
        return np.where(legal, logits + rng.gumbel(size=logits.shape), -np.inf).argmax(1)

    return choose
