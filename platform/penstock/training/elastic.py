"""How many workers a run has, decided on Ray Train's controller by what is free on the nodes at that moment.

Ray's own policy counts whole nodes, so beside another tenant it asks for what it cannot get; it counts those
that have just died, too, and grows at any moment, whatever that throws away.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)

from penstock import capacity
from penstock.training import checkpoint
from penstock.training.events import EventLog
from penstock.training.run import Run

LOOK_S = 0.5
"""Between two looks at the cluster; two that agree decide."""


class Elastic(ElasticScalingPolicy):  # type: ignore[misc]
    """Between `num_workers`' two ends, as many workers as find a place.

    Down at once, when workers die; up when nodes come or another tenant leaves, and away from a node whose
    end is announced, right after a checkpoint, so that hardly a step is taken again. Where there is too
    little room it holds nothing, waits, and says what for.
    """

    def __init__(self, scaling: Any, address: str) -> None:
        super().__init__(scaling)
        self._address = address
        self._seen = -1  # how many found a place at the last look
        self._workers = 0  # that the group had
        self._patience = capacity.Patience()
        self._looked = 0.0
        self._newest: list[int] | None = None  # checkpoint when there was room for more

    @cached_property
    def _run(self) -> Run:
        return Run.at(self._address)  # on the controller's machine, which need not be the driver's

    @cached_property
    def _events(self) -> EventLog:
        return EventLog(self._run.path / "events.jsonl")

    def after_controller_start(self, train_run_context: Any) -> None:
        super().after_controller_start(train_run_context)
        capacity.hold(f"run {self._run.name}")

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Start with as many as fit, or wait."""
        self._maybe_send_resource_request()  # an autoscaler starts nodes for it
        self._newest = None
        least, most = self.scaling_config.min_workers, self.scaling_config.max_workers
        nodes, own = capacity.nodes(), self._own()
        room = min(capacity.room(nodes, self._need, own), most)
        settled, self._seen = room == most or room == self._seen, room
        if room >= least and settled:
            return self._start(room)
        if room < least and own and settled:
            return self._resize(least)  # gives back what is left of the group before it waits
        if room < least and (why := self._patience.news([self._need] * least)):
            self._events.append({"event": "waiting", "for": why})
        time.sleep(LOOK_S)
        return NoopDecision()

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Grow when there is room, or leave a node that is about to go: right after a checkpoint."""
        self._maybe_send_resource_request()
        self._workers, self._seen = worker_group_state.num_workers, -1
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return NoopDecision()
        self._looked = now
        nodes, own = capacity.nodes(), self._own()
        room = min(capacity.room(nodes, self._need, own), self.scaling_config.max_workers)
        stay = {node.id for node in nodes}
        leaving = any(node not in stay for group in own for node, _ in group.bundles)
        if room < self.scaling_config.min_workers or not (room > self._workers or leaving):
            self._newest = None
            return NoopDecision()
        newest = checkpoint.steps(self._run.checkpoints)[-1:]
        if self._newest is None:
            self._newest = newest
        if newest == self._newest:
            return NoopDecision()
        return self._start(room)

    @property
    def _need(self) -> dict[str, float]:
        return dict(self.scaling_config._resources_per_worker_not_none)

    def _own(self) -> list[capacity.Group]:
        return capacity.groups_of(ray.get_runtime_context().get_actor_id())

    def _start(self, workers: int) -> ScalingDecision:
        if self._patience.news(()) is not None or self._workers:
            before = f", there were {self._workers}" if self._workers else ""
            self._events.append({"event": "restart", "why": f"{workers} find a place{before}"})
        self._newest = None
        return self._resize(workers)

    def _resize(self, workers: int) -> ScalingDecision:
        self._seen = -1
        return ResizeDecision(num_workers=workers, resources_per_worker=self._need)


class ElasticTrainer(TorchTrainer):  # type: ignore[misc]
    """TorchTrainer whose number of workers `Elastic` decides. Ray has no public place for a policy."""

    def __init__(self, address: str, **parts: Any) -> None:
        super().__init__(**parts)
        self._address = address

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = Elastic(self.scaling_config, self._address)
        return super()._initialize_and_run_controller(**parts)
