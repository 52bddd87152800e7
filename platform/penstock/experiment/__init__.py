"""The verb `train`: prepare, train, score on the test split, publish. Each part is done once, whatever is
killed in between: the same call goes on from what is committed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import agents, catalog
from penstock.config import build, to_dict
from penstock.errors import PenstockError, nearest
from penstock.experiment.queue import runs
from penstock.experiment.result import TrainResult, finish, stand
from penstock.registry import demand_kind, demand_name, find
from penstock.store import Store
from penstock.tracking import targets
from penstock.tracking.follow import following
from penstock.training import run as folders
from penstock.training.events import EventLog, OnEvent
from penstock.training.means import Means, Workers, means
from penstock.training.run import Run, RunSpec
from penstock.workload import Workload

if TYPE_CHECKING:
    from penstock.data.dataset import Dataset

__all__ = ["TrainResult", "default_name", "runs", "train"]


def train(
    workload_name: str,
    *,
    data: str | None = None,
    preset: str | None = None,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    workers: Workers | None = None,
    threads: int | None = None,
    cpus: int | None = None,
    gpus_per_worker: float | None = None,
    health_timeout_s: float | None = None,
    seed: int = 0,
    name: str | None = None,
    fresh: bool = False,
    model: str | None = None,
    start_from: str | None = None,
    promote: bool = False,
    live_first: bool | None = None,
    store: Store | None = None,
    skip_bad: int = 0,
    track: Sequence[str] | None = None,
    on_event: OnEvent | None = None,
) -> TrainResult:
    """Prepare `data` if needed, train, evaluate on the test split, publish a version.

    The same call again goes on where an earlier one was stopped; a finished run gives its result and trains
    nothing. `threads` and `workers`: of each worker and how many; a run that goes on keeps its own.
    `health_timeout_s`: without a step for so long a worker is killed, and the others go on with a new one
    (default: health.TIMEOUT_S). `live_first`: whether the first version of a name becomes live (default:
    unless the data is synthetic).
    `track`: "tensorboard[:DIR]", "mlflow[:URI]"; default: what PENSTOCK_TRACK names, commas between them.
    PenstockError names what cannot be; RunFailed says how training went wrong.
    """
    began = time.perf_counter()
    trackers = targets(track)
    tell: OnEvent = on_event or (lambda event: None)
    workload = catalog.find(workload_name)
    if preset is not None and preset not in workload.presets:
        raise PenstockError(f"{workload.name} has no preset {preset!r}{nearest(preset, workload.presets)}")
    config = build(workload.config, workload.presets[preset or "default"], config_file, overrides)
    demand_name(model or workload.name)
    store = store or Store.open()
    asked = means(workers, threads, cpus, gpus_per_worker)
    if health_timeout_s is not None:
        asked = dataclasses.replace(asked, health_timeout_s=health_timeout_s)
    dataset = prepared(workload, data or "synthetic", config, store, skip_bad, cpus, tell)
    demand_kind(store, model or workload.name, workload.name, dataset.schema)
    spec = RunSpec(
        workload=workload.name,
        reference=catalog.reference(workload.name),
        config=to_dict(config),
        dataset=dataset.id,
        seed=seed,
        workers=asked.workers,
        max_workers=asked.max_workers,
        threads=asked.threads,
        device=asked.device,
        strategy=strategy_of(config.train.strategy, asked),
        start_from=pinned(store, start_from),
        model=model or workload.name,
    )
    run = _run(store, name or default_name(spec), spec, fresh, keep_threads=threads is None)
    if run.result is not None:
        with following(run, trackers, tell) as tell:
            return stand(run, workload, dataset, store, promote, tell)
    if workers is None:
        asked = dataclasses.replace(asked, workers=run.spec.workers, max_workers=run.spec.max_workers)
    plays = agents.learns(workload, config) != "data"
    if live_first is None and plays:
        live_first = True  # no data was read: that the games it is judged by are generated says nothing
    with run.driver_lease(), following(run, trackers, tell) as tell:
        learn(run, dataclasses.replace(asked, threads=run.spec.threads), cpus, tell, plays)
        return finish(run, workload, config, dataset, store, promote, live_first, tell, began)


def default_name(spec: RunSpec) -> str:
    """The workload and a hash of all that decides the result: the same command again means the same run."""
    asked = json.dumps([spec.config, spec.dataset, spec.seed, spec.start_from], sort_keys=True)
    return f"{spec.workload[:55]}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


# ---------------------------------------------------------------- the parts


def prepared(
    workload: Workload[Any],
    source: str,
    config: Any,
    store: Store,
    skip_bad: int,
    cpus: int | None,
    tell: OnEvent,
    seed: int = 0,
) -> Dataset:
    """The data set that `source` makes, on Ray Data; nothing is done when it is there."""
    from penstock.capacity import watched
    from penstock.cluster import ensure_ray
    from penstock.data.prepare import prepare
    from penstock.data.ray_map import ray_mapper

    # generated data needs no cluster: starting one takes longer than making it
    mapper = None if source == "synthetic" else ray_mapper(lambda: ensure_ray(cpus))
    with watched(tell):
        return prepare(
            workload,
            source,
            config.data,
            store,
            skip_bad=skip_bad,
            seed=seed,
            mapper=mapper,
            on_event=tell,
        )


def strategy_of(asked: str, by: Means) -> str:
    """How gradients are summed where that is left to the platform."""
    return asked if asked != "auto" else "ddp" if by.gpus else "exact"


def pinned(store: Store, reference: str | None) -> str | None:
    """`name@version`, whatever alias was given: it may have moved when the run goes on."""
    if reference is None:
        return None
    return find(store, reference).reference


def _run(store: Store, name: str, spec: RunSpec, fresh: bool, keep_threads: bool) -> Run:
    if name in folders.names(store):
        if fresh:
            old = Run.open(store, name)
            with old.driver_lease():
                folders.remove(old)
        elif keep_threads:
            spec = dataclasses.replace(spec, threads=Run.open(store, name).spec.threads)
    return Run.create(store, name, spec)


def learn(
    run: Run, by: Means, cpus: int | None, tell: OnEvent, plays: bool, until: int | None = None
) -> None:
    """Train `run` by its means; what is done is not done again. `plays`: it learns from games (agents).
    `until`: pause after that many validations."""
    if run.outcome() is not None:
        return  # killed while it was published
    if plays:
        from penstock.rl import learn as play

        play(run, by, cpus, tell, until)
    elif by.alone:
        from penstock.training.work import work
        from penstock.training.world import World

        events = EventLog(run.path / "events.jsonl")

        def both(event: dict[str, Any]) -> None:
            events.append(event)
            tell(event)

        try:
            work(run, World.alone(by.device), both, until)
        finally:
            events.close()
    else:
        from penstock.cluster import ensure_ray
        from penstock.training.on_ray import fit

        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
        ensure_ray(cpus)
        fit(run, by, tell, until)
