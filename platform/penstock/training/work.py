"""What a training worker does with a run: find its parts, train, commit what came out."""

from __future__ import annotations

import dataclasses
from typing import Any

from penstock import catalog
from penstock.config import from_dict
from penstock.data.dataset import Dataset
from penstock.training.events import OnEvent
from penstock.training.loop import train
from penstock.training.run import Run
from penstock.training.world import World
from penstock.workload import Workload


def parts_of(run: Run) -> tuple[Workload[Any], Any, Dataset]:
    """A run's workload, config and data set. PenstockError where the workload is not installed any more."""
    workload = catalog.find_reference(run.spec.workload, run.spec.reference)
    return workload, from_dict(workload.config, run.spec.config), Dataset.load(run.dataset_path)


def work(run: Run, world: World, on_event: OnEvent, until: int | None = None) -> None:
    """Train `run` as one of the workers of `world`; rank 0 commits the outcome. Every part is found from the
    run's folder, so it is the same in this process and on any worker. `until`: see loop.train."""
    if world.broadcast(run.outcome() is not None):
        return  # a worker was killed after all was done
    outcome = train(*parts_of(run), run, world, on_event, until=until)
    if outcome is not None and world.leads:
        facts = dataclasses.asdict(dataclasses.replace(outcome, weights={}))
        with run.writer_fence():
            run.save_outcome(outcome.weights, facts)
    world.barrier()  # nobody leaves before the outcome is committed
