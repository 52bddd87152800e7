"""The verb `tune`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from penstock import catalog, experiment
from penstock.config import to_dict
from penstock.errors import PenstockError, RunError
from penstock.registry import demand_kind, demand_name
from penstock.store import Busy, Store, discard_folder, fetched, lock
from penstock.training import run as folders
from penstock.training.events import OnEvent
from penstock.training.means import Means, Workers, means
from penstock.training.run import Run, RunSpec
from penstock.tuning.asked import (
    Asked,
    check_name,
    default_name,
    keep,
    names,
    read,
    wanted,
)
from penstock.tuning.assembly import Assembly
from penstock.tuning.result import TuneResult
from penstock.tuning.space import as_text


def tune(
    workload_name: str,
    *,
    scheduler: str = "asha",
    searcher: str = "random",
    trials: int | None = None,
    data: str | None = None,
    preset: str | None = None,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    workers: Workers | None = None,
    threads: int | None = None,
    cpus: int | None = None,
    gpus_per_worker: float | None = None,
    seed: int = 0,
    name: str | None = None,
    fresh: bool = False,
    model: str | None = None,
    start_from: str | None = None,
    promote: bool = False,
    store: Store | None = None,
    skip_bad: int = 0,
    on_event: OnEvent | None = None,
) -> TuneResult:
    """Search the settings of a workload, and publish the best model.

    `overrides` are words: `optim.lr=log(1e-4,1e-1)`, `model.kind=choice(cnn,crnn)`, `uniform(a,b)` and
    `int(a,b)` are searched (without any: the workload's own space), `key=value` holds for all trials.
    The same call again goes on where an earlier one was stopped, with more when `trials` is larger; `workers`
    and `threads` are those of each trial. PenstockError names what cannot be; RunFailed: all trials failed.
    """
    began = time.perf_counter()
    tell: OnEvent = on_event or (lambda event: None)
    workload = catalog.find(workload_name)
    ranges, config = wanted(workload, scheduler, searcher, preset, config_file, overrides)
    if trials is not None and trials < 1:
        raise PenstockError(f"--trials {trials}: at least 1 is needed")
    if name is not None:
        check_name(name)
    demand_name(model or workload.name)
    store = store or Store.open()
    by = _means(scheduler, workers, threads, cpus, gpus_per_worker, tell)
    dataset = experiment.prepared(workload, data or "synthetic", config, store, skip_bad, cpus, tell)
    demand_kind(store, model or workload.name, workload.name, dataset.schema)
    spec = RunSpec(
        workload=workload.name,
        reference=catalog.reference(workload.name),
        config=to_dict(config),
        dataset=dataset.id,
        seed=seed,
        workers=by.workers,
        threads=by.threads,
        device=by.device,
        strategy=experiment.strategy_of(config.train.strategy, by),
        start_from=experiment.pinned(store, start_from),
        model=model or workload.name,
    )
    asked = Asked(spec, {key: as_text(ranges[key]) for key in ranges}, scheduler, searcher)
    name = name or default_name(asked)
    if name in names(store):
        if fresh:
            _forget(store, name)
        elif threads is None:
            kept = read(store, name).spec.threads
            by = dataclasses.replace(by, threads=kept)
            asked = dataclasses.replace(asked, spec=dataclasses.replace(spec, threads=kept))
    folder = keep(store, name, asked)
    try:
        with lock(folder / ".driver.lock", blocking=False):
            whole = Assembly(workload, config, dataset, store, name, asked, ranges, tell)
            whole.train(trials, by, cpus)
            return whole.publish(promote, began)
    except Busy as busy:
        raise RunError(
            f"search {name!r} is running already (process {busy.pid}); wait, or choose another --name"
        ) from None


def _means(
    scheduler: str,
    workers: Workers | None,
    threads: int | None,
    cpus: int | None,
    gpus: float | None,
    tell: OnEvent,
) -> Means:
    """Of one trial: one process where nobody asks for more, so that trials can be trained side by side."""
    if isinstance(workers, tuple):
        low, high = workers
        raise RunError(f"--workers {low}:{high}: a trial has a fixed number; write --workers {low}")
    if scheduler == "pbt" and workers not in (None, 1):
        tell(
            {
                "event": "note",
                "text": f"pbt trains every trial in one process; --workers {workers} is not used",
            }
        )
        workers = 1
    return means(workers or 1, threads, cpus, gpus)


def _forget(store: Store, name: str) -> None:
    """A search and its runs; what it published stays."""
    with lock(fetched(store.searches / name) / ".driver.lock", blocking=False):
        for run in folders.names(store):
            found = Run.at(store.runs / run)
            if found.spec.search == name:
                folders.remove(found)
        discard_folder(store.searches / name)
