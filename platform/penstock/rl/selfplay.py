"""Learning from self-play as an RLlib Algorithm: env runners play, a ring remembers, learners learn from it.

The new API stack's parts are used as they are: AlgorithmConfig, EnvRunnerGroup with its restarts,
LearnerGroup with its data parallelism, metrics and checkpoints. Episodes and connectors are not: an env
runner gives rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TIMERS,
    WEIGHTS_SEQ_NO,
)

from penstock.agents import Experience, Plan
from penstock.rl.learning import Learning
from penstock.rl.module import PARTS, AgentLearner, AgentModule
from penstock.rl.ring import Ring
from penstock.training.run import Run

PLAY = "play"
FEWEST_BATCHES = 8  # of rows before learning begins


class SelfPlayConfig(AlgorithmConfig):  # type: ignore[misc]
    """`run`: the folder of the run, which says all else."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SelfPlayAlgorithm)
        self.run = ""
        self.env_runner_cls = SelfPlayRunner
        # an exception in a runner would otherwise wait a minute inside the call
        self.delay_between_env_runner_restarts_s = 0.0
        self.env_runner_health_probe_timeout_s = 0.05
        self.sample_timeout_s = 600.0

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=AgentModule, model_config={"run": self.run})

    def get_default_learner_class(self) -> type:
        return AgentLearner


class SelfPlayRunner(EnvRunner, Checkpointable):  # type: ignore[misc]
    """Holds an actor with its games, and a copy of the network."""

    def __init__(self, *, config: Any, **more: Any) -> None:
        super().__init__(config=config, **more)
        if self.worker_index:
            torch.set_num_threads(1)
        self._weights_seq_no = 0
        spec = config.get_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        if config.num_gpus_per_env_runner:
            self.module.to("cuda")
        self.actor: Any = None

    def get_spaces(self) -> dict[str, Any]:
        """Nothing is read from them: a network here fits boards of any size."""
        none: tuple[Any, ...] = (gymnasium.spaces.Box(0, 1, (1,), np.float32), gymnasium.spaces.Discrete(2))
        return {INPUT_ENV_SPACES: none, DEFAULT_MODULE_ID: none}

    def sample(self, *, done: float = 0.0, iteration: int = 0, **more: Any) -> Experience:
        if self.actor is None:
            # a restarted runner must not play the games of its predecessor again
            seed = (Run.at(self.config.run).spec.seed, self.worker_index, iteration)
            self.actor = self.module.agent.actor(seed)
        self.module.eval()
        with torch.inference_mode():
            found: Experience = self.actor.play(done)
        played = len(next(iter(found.rows.values()))) if found.rows else 0
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, played, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, played, reduce="lifetime_sum")
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        return found

    def get_metrics(self) -> Any:
        return self.metrics.reduce()

    def assert_healthy(self) -> None:
        assert self.module is not None

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(**more)
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        if COMPONENT_RL_MODULE not in state:
            return
        number = state.get(WEIGHTS_SEQ_NO, 0)
        if number == 0 or number > self._weights_seq_no:
            weights = state[COMPONENT_RL_MODULE]
            if isinstance(weights, ray.ObjectRef):
                weights = ray.get(weights)
            self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
        if number > 0:
            self._weights_seq_no = number

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return [(COMPONENT_RL_MODULE, self.module)]


class SelfPlayAlgorithm(Learning, Algorithm):  # type: ignore[misc]
    """One iteration: every runner plays, the ring takes it in, the learners learn `plan.reuse` rows for each
    new one, the runners get the new weights."""

    @classmethod
    def get_default_config(cls) -> SelfPlayConfig:
        return SelfPlayConfig()

    def setup(self, config: Any) -> None:
        super().setup(config)
        self.plan: Plan = self.agent.plan
        self.ring, self.coming = Ring(self.plan.capacity), Ring(self.plan.capacity)
        self.enough = min(FEWEST_BATCHES * self.plan.batch, self.plan.capacity)
        self.rng = np.random.default_rng(self.config.seed)
        self.owed = 0.0  # updates that are due, not all of them whole
        self.facts: dict[str, float] = {}
        self.learned = False
        self.playing = 0  # calls under way

    def training_step(self) -> None:
        with self.metrics.log_time((TIMERS, "sample")):
            found = self.sampled()
        if found:  # else all runners are dead, and the next iteration finds them restarted
            self.metrics.aggregate([metrics for _, metrics in found], key=ENV_RUNNER_RESULTS)
        fresh = 0
        for played, _ in found:
            fresh += self.remember(played)
            for name, value in played.facts.items():
                self.facts[name] = self.facts.get(name, 0.0) + value
        self.facts["rows"] = self.facts.get("rows", 0.0) + fresh
        self.owed += fresh * self.plan.reuse / self.plan.batch
        # once it has begun it learns in every iteration
        updates = max(1, int(self.owed)) if len(self.ring) >= self.enough else 0
        self.learned = updates > 0  # else RLlib tells NaN
        if updates:
            self.learn(updates)
        self.owed = self.owed - updates if updates else 0.0
        with self.metrics.log_time((TIMERS, "sync")):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, inference_only=True
            )

    def remember(self, played: Experience) -> int:
        """The rows of a new kind wait until there are enough of them; so long it learns from the old ones."""
        if self.ring.kind in ("", played.kind):
            return self.ring.add(played.kind, played.rows)
        count = self.coming.add(played.kind, played.rows)
        if len(self.coming) >= self.enough:
            self.ring, self.coming = self.coming, Ring(self.plan.capacity)
        return count

    def sampled(self) -> list[tuple[Experience, Any]]:
        """What the runners have played since the last call. They go on at once, with the weights that they
        have, while here is learned: in iteration i they play with the weights of i - 2."""
        group, done, iteration = self.env_runner_group, self.done, self.iteration

        def play(runner: Any) -> tuple[Experience, Any]:
            return runner.sample(done=done, iteration=iteration), runner.get_metrics()

        if not group.num_remote_env_runners():
            return list(group.foreach_env_runner(play))
        if not self.playing:
            self.playing = group.foreach_env_runner_async(play, tag=PLAY)
        limit = self.config.sample_timeout_s
        found = group.fetch_ready_async_reqs(tags=PLAY, timeout_seconds=limit, return_obj_refs=False)
        self.playing = group.foreach_env_runner_async(play, tag=PLAY)
        return [result for _, result in found]

    def learn(self, updates: int) -> None:
        self.set_rate()
        rows = self.agent.batch(self.ring.draw(updates * self.plan.batch, self.rng), self.rng)
        batch = MultiAgentBatch(
            {DEFAULT_MODULE_ID: SampleBatch(dict(rows))}, env_steps=updates * self.plan.batch
        )
        with self.metrics.log_time((TIMERS, "update")):
            learned = self.learner_group.update(
                training_data=TrainingData(batch=batch),
                minibatch_size=self.plan.batch // max(1, self.config.num_learners),
                num_epochs=1,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.ring.total},
            )
        self.metrics.aggregate(learned, key=LEARNER_RESULTS)
        self.updates += updates

    # ---------------------------------------------------------------- what the driver asks

    def played(self, result: Mapping[str, Any]) -> dict[str, float]:
        """Sums over the last iteration: "rows", and what the actors tell."""
        facts, self.facts = self.facts, {}
        return facts

    def losses(self, result: Mapping[str, Any]) -> dict[str, float]:
        """What the agent's loss named, means over the last iteration; empty where nothing was learned."""
        learned = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        return {name: float(value) for name, value in learned.get(PARTS, {}).items() if self.learned}

    # ---------------------------------------------------------------- checkpoints

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **more)
        state["self_play"] = {
            "ring": self.ring.state(),
            "coming": self.coming.state(),
            "rng": self.rng.bit_generator.state,
            "updates": self.updates,
            "owed": self.owed,
        }
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        if "self_play" in state:
            kept = state["self_play"]
            self.ring.load(kept["ring"])
            self.coming.load(kept["coming"])
            self.rng.bit_generator.state = kept["rng"]
            self.updates, self.owed = kept["updates"], kept["owed"]
