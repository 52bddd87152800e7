"""An agent as RLlib wants its networks and their losses. Every process finds its agent from the run's
folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor

from penstock.config import Optim
from penstock.training import optimiser
from penstock.training.run import Run
from penstock.training.work import parts_of
from penstock.workload import resolve

NET = "net."
"""What RLlib's names of weights have in front."""
PARTS = "parts"
"""Under which a learner reports what the agent's loss named."""


def agent_of(run: Run) -> Any:
    """A new agent of a run (penstock.agents), the same weights every time."""
    workload, config, dataset = parts_of(run)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.spec.seed)
        return resolve(workload.trainers[workload.trainer(config)])(config, dataset.schema)


def optim_of(run: Run) -> Optim:
    """The `optim` section of a run's config."""
    optim: Optim = parts_of(run)[1].optim
    return optim


class AgentModule(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]
    """`model_config["run"]`: the run's folder. In training its output is the agent's loss, so that data
    parallelism sees every weight in one forward pass."""

    def setup(self) -> None:
        self.agent = agent_of(Run.at(self.model_config["run"]))
        self.net = self.agent.module

    def _forward(self, batch: Mapping[str, Any], **more: Any) -> dict[str, Tensor]:
        logits, values = self.agent.act(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.VF_PREDS: values}

    def _forward_train(self, batch: Mapping[str, Any], **more: Any) -> dict[str, Tensor]:
        if self.agent.learns == "self-play":
            return dict(self.agent.loss({name: batch[name] for name in batch if name != Columns.LOSS_MASK}))
        return self._forward(batch)

    def compute_values(self, batch: Mapping[str, Any], embeddings: Any = None) -> Tensor:
        values: Tensor = self.agent.act(batch[Columns.OBS])[1]
        return values


class Optimised(TorchLearner):  # type: ignore[misc]
    """A learner with the platform's optimisers."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        parameters = self.get_parameters(self._module[module_id])
        made = optimiser.build(optim_of(Run.at(self.config.run)), parameters)
        self.register_optimizer(
            module_id=module_id, optimizer=made, params=parameters, lr_or_lr_schedule=config.lr
        )

    def set_rate(self, rate: float) -> None:
        """The learning rate from now on."""
        for made in self._named_optimizers.values():
            self._set_optimizer_lr(made, rate)


class AgentLearner(Optimised):
    """Minimises the agent's own loss."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Tensor:
        parts = {name: value.detach() for name, value in fwd_out.items()}
        self.metrics.log_dict(parts, key=(module_id, PARTS), window=1000)
        loss: Tensor = fwd_out["loss"]
        return loss
