"""A run whose agent plays: iterations of an RLlib algorithm, ratings, checkpoints, and the way on after a
kill.

RLlib restarts env runners. What it does not survive, the death of a learner, ends an attempt here, and the
next one goes on from the newest checkpoint with weights, optimiser, ring and counters; games under way are
lost. A checkpoint is committed as those of the loop are (training.checkpoint), with RLlib's own, pickled,
inside: it is read by the run that wrote it and never published.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError

from penstock.agents import Plan
from penstock.cluster import ensure_ray
from penstock.errors import RunError, RunFailed
from penstock.rl.attempt import Attempt
from penstock.rl.module import agent_of
from penstock.training import checkpoint
from penstock.training.events import EventLog, OnEvent
from penstock.training.means import Means, demand_cpus
from penstock.training.run import Run

FUTILE = 3
"""Attempts in a row without a new checkpoint after which a run gives up."""


def learn(run: Run, means: Means, cpus: int | None, tell: OnEvent, until: int | None = None) -> None:
    """Train `run` until its outcome is committed, on the Ray that is there or a local one with `cpus` logical
    CPUs. `until`: pause after that many ratings, with a checkpoint. RunFailed when it fails, RunError when
    there are too few CPUs or their number is left open."""
    ensure_ray(cpus)
    events = EventLog(run.path / "events.jsonl")

    def both(event: dict[str, Any]) -> None:
        events.append(event)
        tell(event)

    plan = agent_of(run).plan
    if means.max_workers > means.workers:
        asked = f"--workers {means.workers}:{means.max_workers}"
        raise RunError(f"{asked}: env runners are a fixed number; write --workers N, which may change later")
    runners = 0 if means.alone else means.workers
    demand_cpus(runners + plan.learners, means.threads, int(ray.cluster_resources().get("CPU", 0)))
    try:
        _until_done(run, means, runners, plan, both, until)
    finally:
        events.close()


def _until_done(run: Run, means: Means, runners: int, plan: Plan, both: OnEvent, until: int | None) -> None:
    futile, newest = 0, checkpoint.steps(run.checkpoints)[-1:]
    while run.outcome() is None:
        with run.writer_fence():
            if until is not None and run.validated() >= until:
                return
            attempt = Attempt(run, means, runners, plan, both)
            try:
                attempt.go_on(until)
                continue
            except Exception as error:
                if not isinstance(error, RayError) and not attempt.learner_lost():
                    raise
                first = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        now = checkpoint.steps(run.checkpoints)[-1:]
        futile, newest = (futile + 1 if now == newest else 0), now
        if futile >= FUTILE:
            raise RunFailed(f"run {run.name!r}: {FUTILE} times without a new checkpoint: {first}")
        both({"event": "restart", "why": first})
