"""Which RLlib algorithm an agent wants, set up for the machine."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.rl.module import optim_of
from penstock.rl.selfplay import SelfPlayConfig
from penstock.training.means import Means
from penstock.training.run import Run


def build(run: Run, agent: Any, means: Means, runners: int) -> Any:
    """The algorithm of `agent` (penstock.agents), built: `runners` remote env runners, 0 = it plays in this
    process. It is a `Learning` with `played(result)` and `losses(result)`."""
    if agent.learns == "self-play":
        config: Any = SelfPlayConfig()
    else:
        from penstock.rl.ppo import AgentPpoConfig

        config = AgentPpoConfig().of(agent, run.address, runners)
    config.run = run.address
    config.seed = run.spec.seed
    learners = agent.plan.learners
    config.env_runners(
        num_env_runners=runners,
        num_cpus_per_env_runner=means.threads,
        num_gpus_per_env_runner=means.gpus,
    )
    config.learners(num_learners=learners, num_cpus_per_learner="auto" if not learners else means.threads)
    if means.gpus:
        config.learners(num_gpus_per_learner=means.gpus)
    config.grad_clip, config.grad_clip_by = optim_of(run).clip or None, "global_norm"
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # it recommends its new API stack to who is on it
    with stderr_to(run.path / ".rllib.log"):
        return config.build_algo()


@contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """What is written to stderr inside goes to a file, also what C++ writes: Ray's core warns that RLlib
    keeps its config in the object store."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
