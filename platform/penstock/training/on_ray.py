"""Ray Train around the loop: worker groups that are started again after a kill, and nothing else.

Checkpoints, order and metrics are the run folder's (EXACT resume does not depend on Ray). Ray restarts the
group when a worker dies; what Ray has no setting for, the death of its controller, is handled here.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.torch import TorchConfig

from penstock import capacity, errors
from penstock.errors import PenstockError, RunError, RunFailed
from penstock.store import arrow_place, clear_folder, in_bucket
from penstock.training import checkpoint
from penstock.training.elastic import ElasticTrainer
from penstock.training.events import EventLog, OnEvent
from penstock.training.means import Means, demand_cpus
from penstock.training.run import Run
from penstock.training.watch import Watch
from penstock.training.work import work
from penstock.training.world import World

SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the driver's folder
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it waits for a node's end; Elastic leaves before
    # for its places: who asks for them has counted them, so they are there, or a node has died meanwhile
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",
}
FUTILE = 10
"""Restarts in a row without a new checkpoint after which a run gives up."""


def fit(run: Run, means: Means, on_event: OnEvent, until: int | None = None) -> None:
    """Train `run` on Ray workers until its outcome is committed, or so many validations are. Ray is running
    already.

    Killed workers and controllers cost a restart from the newest checkpoint. RunError when the cluster has
    too few CPUs, RunFailed (or the PenstockError that a worker raised) when training itself fails.
    """
    demand_cpus(means.workers, means.threads, int(ray.cluster_resources().get("CPU", 0)))
    _demand_places(means)
    progress = _Progress(run)
    while not done(run, until):
        attempt = _Attempt(run, means, until)
        attempt.follow(on_event)
        error = attempt.error
        if error is None:
            assert done(run, until), "workers ended without an outcome"
        elif not isinstance(error, ActorDiedError | ActorUnavailableError):
            raise _explained(error, run)
        elif progress.futile():
            raise RunFailed(
                f"run {run.name!r}: Ray's controller died {FUTILE} times without a new checkpoint"
            )
        else:
            # no failure setting of Ray Train covers its controller: go on with a new one
            on_event({"event": "restart", "why": "the controller died"})
            capacity.give_back(error.actor_id)


def _demand_places(means: Means) -> None:
    whole = [dataclasses.replace(node, free=node.total) for node in capacity.nodes()]
    if capacity.room(whole, _each(means)) < means.workers:
        why = capacity.explain(means.workers, _each(means), whole, {})
        raise RunError(f"{why}; lower --workers, --threads or --gpus-per-worker, or add a node")


def _each(means: Means) -> dict[str, float]:
    """The resources of one worker."""
    return {"CPU": float(means.threads)} | ({"GPU": means.gpus} if means.gpus else {})


def done(run: Run, until: int | None) -> bool:
    """Whether the outcome of `run` is committed, or `until` validations are."""
    return run.outcome() is not None or (until is not None and run.validated() >= until)


# ---------------------------------------------------------------- on the driver


class _Attempt:
    """One Ray Train run: lives until its workers are done or its controller is dead."""

    def __init__(self, run: Run, means: Means, until: int | None) -> None:
        self.run = run
        self.error: BaseException | None = None
        # Ray Train demands a folder that all nodes share; nothing in it is ever read back
        self._scratch = run.path / ".ray"
        clear_folder(self._scratch)
        place, system = str(self._scratch), None
        if in_bucket(run.path) and sum(node["Alive"] for node in ray.nodes()) > 1:
            place, system = arrow_place(self._scratch)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        workers, most = means.workers, means.max_workers
        self._trainer = ElasticTrainer(
            run.address,
            train_loop_per_worker=_train,
            train_loop_config={"run": run.address, "path": list(sys.path), "until": until},
            scaling_config=ScalingConfig(
                num_workers=(workers, most) if most > workers else workers,
                use_gpu=means.gpus > 0,
                resources_per_worker=_each(means),
            ),
            torch_config=TorchConfig(backend="nccl" if means.gpus >= 1 else "gloo"),  # NCCL: one GPU a rank
            run_config=RunConfig(
                name=f"{run.name}-{uuid.uuid4().hex[:8]}",  # a used name would make Ray resume by itself
                storage_path=place,
                storage_filesystem=system,
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[_Judge(run.address), Watch(run.address, means.health_timeout_s)],
            ),
        )

    def follow(self, on_event: OnEvent) -> None:
        """Run to the end, passing on what rank 0 says; `error` is then what `fit()` raised, if it did."""
        events = EventLog(self.run.path / "events.jsonl")
        events.append({"event": "starting"})  # what an earlier one waited for is past
        offset = events.end()
        # Ray's fit() replaces the SIGINT handler in a main thread, and then exits with 0 on Ctrl-C
        thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        thread.start()
        running = True
        while running:
            thread.join(events.pace_s)
            running = thread.is_alive()
            told, offset = events.since(offset)
            for event in told:
                on_event(event)
        clear_folder(self._scratch)

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # handed to the main thread
            self.error = error


class _Progress:
    """Counts restarts that brought no new checkpoint."""

    def __init__(self, run: Run) -> None:
        self._folder = run.checkpoints
        self._newest = checkpoint.steps(self._folder)[-1:]
        self._futile = 0

    def futile(self) -> bool:
        newest = checkpoint.steps(self._folder)[-1:]
        self._futile = self._futile + 1 if newest == self._newest else 0
        self._newest = newest
        return self._futile >= FUTILE


class _Judge(UserCallback):  # type: ignore[misc]
    """Decides, on the controller, whether failed workers are worth a restart: a death is, an error is not.
    Deaths without a new checkpoint are so a few times; where a node was taken away, always."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._progress: _Progress | None = None

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, BaseException]) -> None:
        faults = [_cause(error) for error in worker_exceptions.values()]
        if any(isinstance(fault, RayActorError) and fault.preempted for fault in faults):
            return
        own = [fault for fault in faults if isinstance(fault, WorkerFault)]
        if own and not any(isinstance(fault, RayError) for fault in faults):
            raise own[0]  # nobody was killed: it is no consequence of that
        self._progress = self._progress or _Progress(Run.at(self._address))
        if self._progress.futile():
            raise WorkerFault("RunFailed", f"workers died {FUTILE} times without a new checkpoint")


def _explained(error: BaseException, run: Run) -> BaseException:
    """What a worker met, as the exception it was if it was ours, else as a RunFailed of one line."""
    while isinstance(error, ControllerError):
        error = error.controller_failure
    if isinstance(error, WorkerGroupError):
        error = next(iter(error.worker_failures.values()), error)
    error = _cause(error)
    if not isinstance(error, WorkerFault):
        first = (str(error).strip().splitlines() or [""])[-1]
        return RunFailed(f"run {run.name!r}: {type(error).__name__}: {first[:300]}")
    kind = getattr(errors, error.kind, None)
    if isinstance(kind, type) and issubclass(kind, PenstockError):
        return kind(error.text)
    return RunFailed(error.text)


def _cause(error: BaseException) -> BaseException:
    """What Ray Train met, without its wrapping."""
    for wrapped in ("_base_exc", "health_check_failure"):
        error = getattr(error, wrapped, error)
    return error


# ---------------------------------------------------------------- on the workers


class WorkerFault(Exception):
    """An error of training itself, as it travels from a worker to the driver: class name and one line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return self.text


def _train(job: Mapping[str, Any]) -> None:
    """What each worker runs; it knows nothing but where the run is."""
    extend_path(job["path"])
    import torch

    run = Run.at(job["run"])
    torch.set_num_threads(run.spec.threads)
    if run.spec.device == "cuda":
        device = ray.train.torch.get_device()
    else:
        device = torch.device("cpu")
    world = World.distributed(device, run.spec.strategy)
    events = EventLog(run.path / "events.jsonl")
    try:
        work(run, world, events.append if world.leads else lambda event: None, job["until"])
    except (PenstockError, RunFailed) as error:
        raise WorkerFault(type(error).__name__, str(error)) from error
    except Exception as error:
        if _lost_peer(error):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        text = f"run {run.name!r}: {type(error).__name__}: {first[:300]}"
        raise WorkerFault("RunFailed", text) from error
    finally:
        events.close()


def extend_path(entries: Sequence[str]) -> None:
    # so that a worker finds a workload wherever the driver found it
    for entry in entries:
        if entry and entry not in sys.path and Path(entry).exists():
            sys.path.append(entry)


def _lost_peer(error: BaseException) -> bool:
    """Whether `error` is how a collective fails when another worker is gone. Gloo has no class for it."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
