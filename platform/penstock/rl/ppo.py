"""RLlib's PPO, on an agent's own environment and network, against a pool of its earlier weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import ray
import torch
from ray.rllib.algorithms.ppo.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import LEARNER_RESULTS
from ray.tune.registry import register_env

from penstock.agents import Plan
from penstock.rl.learning import Learning
from penstock.rl.module import AgentModule, Optimised, agent_of
from penstock.training.run import Run

ENVIRONMENT = "penstock-agent"


class PpoLearner(Optimised, PPOTorchLearner):  # type: ignore[misc]
    """PPO's loss with the platform's optimiser."""


class AgentPpoConfig(PPOConfig):  # type: ignore[misc]
    """`run`: the folder of the run, whose agent says all else."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or AgentPpo)
        self.run = ""
        self.delay_between_env_runner_restarts_s = 0.0
        self.env_runner_health_probe_timeout_s = 0.05

    def of(self, agent: Any, run: str, runners: int) -> AgentPpoConfig:
        """As the agent wants it; before it is built."""
        plan: Plan = agent.plan
        self.run = run
        register_env(ENVIRONMENT, made)
        self.environment(ENVIRONMENT, env_config={"run": run})
        self.env_runners(
            gym_env_vectorize_mode="vector_entry_point",
            num_envs_per_env_runner=plan.environments,
            rollout_fragment_length=plan.steps,
        )
        self.rl_module(rl_module_spec=RLModuleSpec(module_class=AgentModule, model_config={"run": run}))
        rows = plan.environments * plan.steps * max(1, runners)
        self.training(train_batch_size=rows, minibatch_size=plan.batch, **agent.ppo)
        return self

    def get_default_learner_class(self) -> type:
        return PpoLearner


def made(context: Mapping[str, Any]) -> Any:
    """The environments of an env runner."""
    return agent_of(Run.at(context["run"])).environment(context["num_envs"])


class AgentPpo(Learning, PPO):  # type: ignore[misc]
    """PPO whose opponents are earlier weights. An env runner that is restarted has the environment's own
    opponents until the pool changes again."""

    @classmethod
    def get_default_config(cls) -> AgentPpoConfig:
        return AgentPpoConfig()

    def setup(self, config: Any) -> None:
        super().setup(config)
        self.plan: Plan = self.agent.plan
        self.past: list[dict[str, torch.Tensor]] = []

    def training_step(self) -> None:
        self.set_rate()
        super().training_step()
        each = self.config.num_epochs * self.config.total_train_batch_size // self.config.minibatch_size
        self.updates += max(1, each)
        if (self.iteration + 1) % self.plan.pool_every == 0:
            self.past = [*self.past, self.net()][-self.plan.pool :]
            self.share_pool()

    def share_pool(self) -> None:
        """Makes the earlier weights the opponents of all env runners."""
        past = ray.put(self.past)

        def tell(runner: Any) -> None:
            if runner.env is not None:
                runner.module.unwrapped().agent.pool(runner.env.unwrapped, ray.get(past))

        self.env_runner_group.foreach_env_runner(tell, local_env_runner=True)

    # ---------------------------------------------------------------- what the driver asks

    def played(self, result: Mapping[str, Any]) -> dict[str, float]:
        """Of the last iteration: "rows" the agent's steps, "games" that ended."""
        seen = result.get("env_runners", {})
        names = {"rows": "num_env_steps_sampled", "games": "num_episodes", "reward": "episode_return_mean"}
        found = {name: float(seen.get(theirs, 0.0)) for name, theirs in names.items()}
        return {name: value for name, value in found.items() if value == value}

    def losses(self, result: Mapping[str, Any]) -> dict[str, float]:
        """PPO's, "loss" among them, means over the last iteration."""
        learned = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        names = {"loss": "total_loss", "policy": "policy_loss", "value": "vf_loss", "entropy": "entropy"}
        return {name: float(learned[theirs]) for name, theirs in names.items() if theirs in learned}

    # ---------------------------------------------------------------- checkpoints

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **more)
        state["agent"] = {"past": self.past, "updates": self.updates}
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        if "agent" in state:
            self.past, self.updates = state["agent"]["past"], state["agent"]["updates"]
            if self.past:
                self.share_pool()
