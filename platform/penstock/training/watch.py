"""On Ray Train's controller: listens to the workers' pulses, ends the ones that hang, names the slow ones."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock.training import health
from penstock.training.events import EventLog
from penstock.training.health import Beat
from penstock.training.run import Run
from penstock.training.stragglers import Stragglers

EVERY_S = 1.0
PATIENCE_S = 20.0
"""For a kill to show before the next one."""
TITLE = "ray::RayTrainWorker"


class Watch(WorkerGroupCallback):  # type: ignore[misc]
    """Of one run. `timeout_s`: see health.hung."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._looked = 0.0
        self._forget({})

    @cached_property
    def _events(self) -> EventLog:
        # on the controller's machine, which need not be the driver's
        return EventLog(Run.at(self._address).path / "events.jsonl")

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        self._forget(dict(enumerate(worker_group.get_workers())))

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        self._forget({})

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        if not self._workers or worker_group_status.errors or worker_group_status.finished:
            return
        self._listen()
        now = time.monotonic()
        if now - self._looked < EVERY_S or len(self._heard) < len(self._workers):
            return
        self._looked = now
        beats = {
            rank: dataclasses.replace(beat, still_s=beat.still_s + now - then)
            for rank, (beat, then) in self._heard.items()
        }
        for rank in health.hung(beats, self._timeout_s):
            self._end(rank, beats[rank], now)
        for slow in self._stragglers.look({rank: (beat.steps, beat.busy_s) for rank, beat in beats.items()}):
            self._events.append(
                {
                    "event": "straggler",
                    "rank": slow.rank,
                    "node": self._node(slow.rank),
                    "factor": slow.factor,
                    "step_s": slow.step_s,
                }
            )

    def _forget(self, workers: dict[int, Any]) -> None:
        """What was heard of the group before; `workers` are those of the next one."""
        self._workers = workers
        self._asked: dict[int, Any] = {}
        self._heard: dict[int, tuple[Beat, float]] = {}
        self._killed: dict[int, float] = {}
        self._stragglers = Stragglers()
        self._looked = 0.0

    def _listen(self) -> None:
        now = time.monotonic()
        for rank, worker in self._workers.items():
            heard = self._heard.get(rank)
            if rank not in self._asked and (heard is None or now - heard[1] >= EVERY_S):
                self._asked[rank] = worker.execute_async(health.read)
        for rank, answer in list(self._asked.items()):
            if ray.wait([answer], timeout=0)[0]:
                del self._asked[rank]
                try:
                    self._heard[rank] = (ray.get(answer), now)
                except RayError:
                    continue  # it is dead; the next poll says so

    def _end(self, rank: int, beat: Beat, now: float) -> None:
        """Kill a worker that hangs, by a signal on its node first: a stopped process takes no orders."""
        worker = self._workers[rank]
        before = self._killed.get(rank)
        if before is None:
            seconds, step = round(beat.still_s), beat.steps
            at = {"rank": rank, "node": self._node(rank), "seconds": seconds, "steps": step}
            self._events.append({"event": "hung", **at})
            there = NodeAffinitySchedulingStrategy(worker.metadata.node_id, soft=False)
            end = ray.remote(num_cpus=0, max_retries=0)(kill)
            end.options(scheduling_strategy=there).remote(worker.metadata.pid)
        elif now - before < PATIENCE_S:
            return
        else:
            ray.kill(worker.actor)
        self._killed[rank] = now

    def _node(self, rank: int) -> str:
        about = self._workers[rank].metadata
        return f"{about.node_ip} ({about.node_id[:8]})"


def kill(pid: int) -> None:
    """SIGKILL a training worker of this node; nothing else that may have its number by now."""
    try:
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(TITLE.encode()):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # it ended by itself
