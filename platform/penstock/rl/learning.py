"""What both algorithms have: where they lie, how fast they learn, and what a run asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from torch import Tensor

from penstock.rl.module import NET, agent_of, optim_of
from penstock.training.optimiser import rate_at
from penstock.training.run import Run


class Learning:
    """Mixed into an RLlib Algorithm whose config has `run`, where the run is; nothing is left outside of
    that. `done`: the share of the run that lies behind, as it is told; `updates`: of the learners."""

    config: Any
    learner_group: Any
    env_runner_group: Any

    def _setup_logdir(self) -> None:
        folder = Run.at(self.config.run).path / ".rllib"  # RLlib would write into the home folder
        folder.mkdir(exist_ok=True)
        self._logdir = str(folder)

    def setup(self, config: Any) -> None:
        super().setup(config)  # type: ignore[misc]
        run = Run.at(self.config.run)
        self.agent, self.optim = agent_of(run), optim_of(run)
        self.updates, self.done = 0, 0.0

    def set_rate(self) -> None:
        """Gives the learners the learning rate of this point of the run."""
        rate = rate_at(self.optim, self.updates, self.done)
        self.learner_group.foreach_learner(lambda learner: learner.set_rate(rate))

    def net(self) -> dict[str, Tensor]:
        """The learner's weights by the module's own names, on the CPU, as copies."""
        weights = self.learner_group.get_weights()[DEFAULT_MODULE_ID]
        return {
            name.removeprefix(NET): torch.as_tensor(value).detach().cpu().clone()
            for name, value in weights.items()
        }

    def set_net(self, weights: Mapping[str, Tensor]) -> None:
        """Gives them to the learners, and to whoever plays."""
        state = {NET + name: tensor.numpy() for name, tensor in weights.items()}
        self.learner_group.set_state({COMPONENT_LEARNER: {COMPONENT_RL_MODULE: {DEFAULT_MODULE_ID: state}}})
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, inference_only=True
        )

    def learners(self) -> int:
        """Remote learners that live; 0 where the driving process learns."""
        group = self.learner_group
        return 0 if group.is_local else len(group._worker_manager.healthy_actor_ids())
