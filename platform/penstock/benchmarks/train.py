"""Ray Train with checkpoints against a bare torch DDP loop of the same model on the same batches, and what a
second worker brings to each."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from penstock import catalog, cluster
from penstock.benchmarks.pairs import Ratio, ratio
from penstock.config import build, to_dict
from penstock.errors import ConfigError, RunError
from penstock.workload import Workload

if TYPE_CHECKING:
    from penstock.store import Store
    from penstock.training.means import Means
    from penstock.training.run import Run

WARM = 50
"""Steps left out of every side: allocators, caches and DDP's buckets settle."""

Side = Literal["ours", "bare", "apart"]
"""Ray Train; a hand-written DDP loop; the same loop with workers that do not wait for each other."""
NAMES: dict[Side, str] = {
    "ours": "Ray Train with checkpoints",
    "bare": "a bare torch DDP loop of the same model",
    "apart": "the bare loop with workers that never wait for each other",
}


class Step(NamedTuple):
    """What a step of rank 0 took, seconds: CPU time of its process, and time that went by."""

    cpu_s: float
    wall_s: float


Rounds = Mapping[tuple[Side, int], Sequence[Step]]
"""By side and number of workers: one figure a round. A round measures every side once."""


def train(
    workload: Workload[Any],
    *,
    data: str = "synthetic",
    overrides: Sequence[str] = (),
    store: Store,
    workers: Sequence[int] = (2,),
    gpus_per_worker: float = 0.0,
    steps: int = 200,
    pairs: int = 10,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """{"ratios": …}: steady-state CPU time and wall time a step of rank 0, checkpoints included, over those
    of a hand-written DDP loop, for each number of workers; with two numbers also how many times the items/s
    the second gives over the first, of both; and where the time to the first step goes.

    The global batch is the same for any number of workers. RunError where there are too few CPUs or GPUs.
    """
    from penstock.data.order import steps_per_epoch
    from penstock.data.prepare import prepare
    from penstock.store import ASIDE
    from penstock.training.means import means

    if steps < WARM + 50 or steps % 50:
        raise ConfigError(f"{steps} steps: at least {WARM + 50} and a multiple of 50 are needed")
    config = build(workload.config, workload.presets["default"], None, overrides)
    cluster.ensure_ray(cpus=max(4, *workers))
    demand_gpus(max(workers), gpus_per_worker)
    asked = [means(number, 1, None, gpus_per_worker) for number in workers]
    dataset = prepare(workload, data, config.data, store)
    items = len(dataset.train)
    per_epoch = steps_per_epoch(items, config.train.batch)
    # one validation, after the last step that counts: it is no part of a step
    long = dataclasses.replace(config.train, epochs=-(-(steps + 25) // per_epoch), patience=0)
    config = dataclasses.replace(config, train=dataclasses.replace(long, validate_every=long.epochs))
    seen = shown(steps, items, config.train.batch) - shown(WARM, items, config.train.batch)
    rounds: dict[tuple[Side, int], list[Step]] = {}
    starts: list[dict[str, float]] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=store.root) as scratch:
        measured = _Sides(workload, config, dataset.path, Path(scratch), steps)
        turns = [(side, each) for each in asked for side in sides(each.workers, len(asked) > 1)]
        for number in range(pairs):
            # there and back, so that a machine's drift hits all alike
            for side, each in turns if number % 2 == 0 else turns[::-1]:
                if side == "ours":
                    step, start = measured.ours(each)
                    starts.append(start)
                else:
                    step = measured.bare(each, apart=side == "apart")
                rounds.setdefault((side, each.workers), []).append(step)
                rate = seen / (steps - WARM) / step.wall_s
                say(
                    f"round {number + 1}, {side}, workers: {each.workers}: {1e3 * step.cpu_s:.2f} ms CPU and "
                    f"{1e3 * step.wall_s:.2f} ms a step, {rate:,.0f} items/s"
                )
    every = min(config.train.checkpoint_every, per_epoch)
    ratios = summary(rounds, workers, seen / (steps - WARM), every, (load, os.getloadavg()[0]))
    phases = {name: sorted(start[name] for start in starts)[len(starts) // 2] for name in starts[0]}
    for found in ratios.values():
        say(found.line())
    say("to the first step: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items()))
    return {
        "workload": workload.name,
        "source": data,
        "steps": steps,
        "ratios": {name: found.to_json() for name, found in ratios.items()},
        "first_step_s": phases,
    }


def sides(workers: int, scales: bool) -> list[Side]:
    """What is measured with so many workers; `scales`: against another number of them."""
    return ["ours", "bare", "apart"] if scales and workers > 1 else ["ours", "bare"]


def shown(steps: int, items: int, batch: int) -> int:
    """How many items the first `steps` steps show; the last batch of an epoch may be smaller."""
    per_epoch = -(-items // batch)
    return steps // per_epoch * items + min(steps % per_epoch * batch, items)


def summary(
    rounds: Rounds, workers: Sequence[int], items_a_step: float, every: int, load: tuple[float, float]
) -> dict[str, Ratio]:
    """The ratios of some rounds by name: ours over the bare loop for each number of workers; with two numbers
    the items/s of the second over the first, for ours, for the bare loop, and (where the first is 1) for
    workers apart."""
    found: dict[str, Ratio] = {}
    for number in workers:
        ours, bare = rounds["ours", number], rounds["bare", number]
        for key, at, unit in (
            ("train_cpu", 0, "s CPU a step (rank 0)"),
            ("train_wall", 1, "s a step"),
        ):
            found[f"{key}, workers: {number}"] = ratio(
                f"{'CPU' if at == 0 else 'wall'} time a step, workers: {number}, {NAMES['ours']} "
                f"(every {every} steps)",
                NAMES["bare"],
                np.array([[a[at], b[at]] for a, b in zip(ours, bare, strict=True)]),
                unit,
                load,
            )
    if len(workers) != 2:
        return found
    few, many = workers
    for side in sides(many, few == 1):
        # with one worker there is nobody to wait for: the bare loop stands for workers apart, too
        one = rounds["bare" if side == "apart" else side, few]
        rates = [
            [items_a_step / more.wall_s, items_a_step / less.wall_s]
            for more, less in zip(rounds[side, many], one, strict=True)
        ]
        found[f"scaling, {side}, workers: {few} to {many}"] = ratio(
            f"items/s, workers: {many}, {NAMES[side]}", f"workers: {few}", np.array(rates), "items/s", load
        )
    return found


def demand_gpus(workers: int, each: float) -> None:
    """RunError where `workers` cannot have `each` GPUs on the running Ray: Ray Train would wait without end,
    and NCCL takes one worker a GPU."""
    import ray

    count = ray.cluster_resources().get("GPU", 0.0)
    if workers * each > count:
        raise RunError(
            f"{workers} workers with {each:g} GPUs each need {workers * each:g} and there are {count:g}; "
            "lower --workers or --gpus-per-worker"
        )
    if workers > 1 and each % 1:
        raise RunError(f"--gpus-per-worker {each:g}: several workers need whole GPUs; write 1")


class _Sides:
    """All sides of a round, each run from a fresh run folder that asks for the same."""

    def __init__(
        self, workload: Workload[Any], config: Any, dataset: Path, scratch: Path, steps: int
    ) -> None:
        from penstock.store import Store
        from penstock.training.run import RunSpec

        self.store, self.steps, self.count = Store.open(scratch), steps, 0
        (self.store.datasets / dataset.name).symlink_to(dataset)
        self.spec = RunSpec(
            workload=workload.name,
            reference=catalog.reference(workload.name),
            config=to_dict(config),
            dataset=dataset.name,
        )

    def _run(self, asked: Means) -> Run:
        from penstock.training.run import Run

        self.count += 1
        strategy = "ddp" if asked.gpus else "exact"
        spec = dataclasses.replace(self.spec, workers=asked.workers, device=asked.device, strategy=strategy)
        return Run.create(self.store, f"run-{self.count}", spec)

    def ours(self, asked: Means) -> tuple[Step, dict[str, float]]:
        """A step of one Ray Train run, and the seconds to the first one by phase."""
        from penstock.training.events import EventLog
        from penstock.training.on_ray import fit

        run = self._run(asked)
        begun = time.time()
        fit(run, asked, lambda event: None)
        told, _ = EventLog(run.path / "events.jsonl").since(0)
        at = {event["step"]: event for event in told if event["event"] == "step"}
        start = next(event for event in told if event["event"] == "start")
        first, last = at[WARM], at[self.steps]
        count = self.steps - WARM
        phases = {
            "workers started and imported": start["time"] - begun,
            "first step": next(e for e in told if e["event"] == "done")["first_step_s"],
        }
        step = Step((last["cpu_s"] - first["cpu_s"]) / count, (last["time"] - first["time"]) / count)
        return step, phases

    def bare(self, asked: Means, apart: bool) -> Step:
        """A step of one hand-written DDP run."""
        run = self._run(asked)
        words = [str(run.path), str(self.steps), str(WARM), *(["apart"] if apart else [])]
        command = [sys.executable, "-m", "penstock.benchmarks.bare_ddp", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return Step(**json.loads(done.stdout.splitlines()[-1]))
