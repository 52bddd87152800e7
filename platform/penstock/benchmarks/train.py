"""Ray Train with checkpoints against a bare torch DDP loop of the same model on the same batches."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import catalog, cluster
from penstock.benchmarks.pairs import compare
from penstock.config import build, to_dict
from penstock.errors import ConfigError
from penstock.workload import Workload

if TYPE_CHECKING:
    from penstock.store import Store
    from penstock.training.means import Means

WARM = 50
"""Steps left out of both sides: allocators, caches and DDP's buckets settle."""


def train(
    workload: Workload[Any],
    *,
    data: str = "synthetic",
    overrides: Sequence[str] = (),
    store: Store,
    workers: int = 2,
    steps: int = 200,
    pairs: int = 10,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """{"ratios": …}: steady-state CPU time (and wall time) a step of rank 0, checkpoints included, over
    that of a hand-written DDP loop; and where the time to the first step goes."""
    from penstock.data.order import steps_per_epoch
    from penstock.data.prepare import prepare
    from penstock.store import ASIDE
    from penstock.training.means import means

    if steps < WARM + 50 or steps % 50:
        raise ConfigError(f"{steps} steps: at least {WARM + 50} and a multiple of 50 are needed")
    config = build(workload.config, workload.presets["default"], None, overrides)
    cluster.ensure_ray(cpus=max(4, workers))
    asked = means(workers, 1, None, 0.0)
    dataset = prepare(workload, data, config.data, store)
    per_epoch = steps_per_epoch(len(dataset.train), config.train.batch)
    # one validation, after the last step that counts: it is no part of a step
    long = dataclasses.replace(config.train, epochs=-(-(steps + 25) // per_epoch), patience=0)
    config = dataclasses.replace(config, train=dataclasses.replace(long, validate_every=long.epochs))
    every = min(config.train.checkpoint_every, per_epoch)
    walls: dict[str, list[float]] = {"ray": [], "bare": []}
    starts: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=store.root) as scratch:
        side = _Sides(workload, config, dataset.path, Path(scratch), asked, steps)

        def ours() -> float:
            cpu, wall, start = side.ours()
            walls["ray"].append(wall)
            starts.append(start)
            return cpu

        def bare() -> float:
            cpu, wall = side.bare()
            walls["bare"].append(wall)
            return cpu

        ratio = compare(
            f"CPU time a step, {workers} workers on Ray Train, a checkpoint every {every} steps",
            "a bare torch DDP loop of the same model",
            ours,
            bare,
            pairs=pairs,
            unit="s CPU a step (rank 0)",
            on_pair=lambda pair, a, b: say(f"pair {pair + 1}: {1e3 * a:.2f} and {1e3 * b:.2f} ms CPU a step"),
        )
    wall = sorted(a / b for a, b in zip(walls["ray"], walls["bare"], strict=True))[pairs // 2]
    phases = {name: sorted(start[name] for start in starts)[len(starts) // 2] for name in starts[0]}
    say(ratio.line())
    say(f"wall time a step: {wall:.3f} (median of the pairs)")
    say("to the first step: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items()))
    return {
        "workload": workload.name,
        "source": data,
        "steps": steps,
        "ratios": {"train_cpu": ratio.to_json(), "train_wall": wall},
        "first_step_s": phases,
    }


class _Sides:
    """Both sides of a pair, each run from a fresh run folder that asks for the same."""

    def __init__(
        self, workload: Workload[Any], config: Any, dataset: Path, scratch: Path, asked: Means, steps: int
    ) -> None:
        from penstock.store import Store
        from penstock.training.run import RunSpec

        self.store, self.asked, self.steps, self.count = Store.open(scratch), asked, steps, 0
        (self.store.datasets / dataset.name).symlink_to(dataset)
        self.spec = RunSpec(
            workload=workload.name,
            reference=catalog.reference(workload.name),
            config=to_dict(config),
            dataset=dataset.name,
            workers=asked.workers,
        )

    def ours(self) -> tuple[float, float, dict[str, float]]:
        """(CPU s a step, wall s a step, seconds to the first step by phase) of one Ray Train run."""
        from penstock.training.events import EventLog
        from penstock.training.on_ray import fit
        from penstock.training.run import Run

        self.count += 1
        run = Run.create(self.store, f"ray-{self.count}", self.spec)
        begun = time.time()
        fit(run, self.asked, lambda event: None)
        told, _ = EventLog(run.path / "events.jsonl").since(0)
        at = {event["step"]: event for event in told if event["event"] == "step"}
        start = next(event for event in told if event["event"] == "start")
        first, last = at[WARM], at[self.steps]
        count = self.steps - WARM
        phases = {
            "workers started and imported": start["time"] - begun,
            "first step": next(e for e in told if e["event"] == "done")["first_step_s"],
        }
        return (last["cpu_s"] - first["cpu_s"]) / count, (last["time"] - first["time"]) / count, phases

    def bare(self) -> tuple[float, float]:
        """(CPU s a step, wall s a step) of one hand-written DDP run."""
        from penstock.training.run import Run

        self.count += 1
        run = Run.create(self.store, f"bare-{self.count}", self.spec)
        command = [
            sys.executable,
            "-m",
            "penstock.benchmarks.bare_ddp",
            str(run.path),
            str(self.steps),
            str(WARM),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        return figures["cpu_s"], figures["wall_s"]
