"""Real workers without Ray: gloo processes forked from this one, which has imported torch already."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from penstock.config import to_dict
from penstock.data.dataset import Dataset
from penstock.store import Store
from penstock.training.loop import Outcome, train
from penstock.training.run import Run, RunSpec
from penstock.training.world import World
from penstock.workload import Workload


@dataclasses.dataclass
class Made:
    """What a run left behind: the leading worker's weights and what the log says."""

    weights: dict[str, torch.Tensor]
    losses: Any  # float64 [steps]
    run: Run

    def distance(self, other: Made) -> float:
        """The largest difference of any weight."""
        pairs = [(self.weights[name].double(), other.weights[name].double()) for name in self.weights]
        return max(float((a - b).abs().max()) for a, b in pairs)


def train_with(
    workers: int,
    workload: Workload[Any],
    config: Any,
    dataset: Dataset,
    store: Store,
    strategy: str = "exact",
    name: str | None = None,
    dies: bool = False,
) -> Made | None:
    """Train with so many workers of one thread each; None when they died and that was expected."""
    spec = RunSpec(workload.name, "tests.toy:workload", to_dict(config), dataset.id, strategy=strategy)
    run = Run.create(store, name or f"run-{uuid.uuid4().hex[:8]}", spec)
    results = store.root / f"{uuid.uuid4().hex}.safetensors"

    def body(world: World) -> None:
        outcome: Outcome = train(workload, config, dataset, run, world)
        if world.leads:
            save_file(outcome.weights, results)

    died = fork(workers, strategy, store.root, body)
    if dies:
        assert died == workers
        return None
    assert not died
    return Made(load_file(results), run.metrics.loss_curve(), run)


def fork(workers: int, strategy: str, folder: Path, body: Callable[[World], None]) -> int:
    """Run `body` in so many processes; how many of them failed."""
    meeting = folder / f"meeting-{uuid.uuid4().hex}"
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_worker, args=(rank, workers, strategy, meeting, body))
        for rank in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    hung = [process for process in processes if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, f"{len(hung)} of {workers} workers hang"
    return sum(process.exitcode != 0 for process in processes)


def _worker(rank: int, size: int, strategy: str, meeting: Path, body: Callable[[World], None]) -> None:
    torch.set_num_threads(1)
    if size == 1:
        body(World.alone())
        return
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        body(World.distributed("cpu", strategy))
    except BaseException:
        traceback.print_exc()
        # at once: torch's clean-up of DDP may wait for ever for a peer that has died as well
        sys.stderr.flush()
        os._exit(1)
    dist.destroy_process_group()
