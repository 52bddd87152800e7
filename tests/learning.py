"""A workload taught in this process by the platform's loop: what the tests of every workload ask of it."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import catalog
from penstock.config import to_dict
from penstock.data.dataset import Dataset
from penstock.registry import weights_sha256
from penstock.store import Store
from penstock.training.loop import train
from penstock.training.progress import Outcome
from penstock.training.run import Run, RunSpec
from penstock.training.world import World
from penstock.workload import Workload


class Killed(Exception):
    """Stands for a kill."""


def learn(
    workload: Workload[Any], config: Any, dataset: Dataset, store: Store, name: str, die_at: int = 0
) -> tuple[Outcome, Run]:
    """One run called `name`; with `die_at` it ends in Killed once that step is committed."""
    spec = RunSpec(workload.name, catalog.reference(workload.name), to_dict(config), dataset.id)
    run = Run.create(store, name, spec)

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and 0 < die_at <= event["step"]:
            raise Killed

    return train(workload, config, dataset, run, World.alone(), on_event), run


def goes_on_bit_for_bit(workload: Workload[Any], config: Any, dataset: Dataset, store: Store) -> None:
    """Asserts that a run killed in the middle ends with the bits of an undisturbed one. `config` must
    commit a checkpoint at step 8 or earlier, and steps after it."""
    whole, run = learn(workload, config, dataset, store, "whole")
    with pytest.raises(Killed):
        learn(workload, config, dataset, store, "killed", die_at=8)
    rest, killed = learn(workload, config, dataset, store, "killed")
    assert [attempt["from_step"] > 0 for attempt in killed.attempts] == [False, True]
    assert weights_sha256(rest.weights) == weights_sha256(whole.weights)
    assert killed.metrics.loss_curve().tobytes() == run.metrics.loss_curve().tobytes()
