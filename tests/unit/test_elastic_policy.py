"""How many workers a run gets, decided on made-up clusters; no Ray is started."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ScalingConfig

from penstock import capacity
from penstock.capacity import Group, Node
from penstock.store import Store
from penstock.training import elastic
from penstock.training.elastic import Elastic
from penstock.training.events import EventLog
from penstock.training.run import Run, RunSpec

ONE = {"CPU": 1.0}


class Cluster:
    """What the policy sees: free CPUs of each node, of one CPU in all, and what the run itself holds."""

    def __init__(self, path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: dict[str, float] = {}
        self.held: list[str] = []
        self.now = 1000.0
        scaling = ScalingConfig(num_workers=workers, resources_per_worker=ONE)
        self.policy = Elastic(scaling, path)
        self.events = EventLog(path / "events.jsonl")
        monkeypatch.setattr(self.policy, "_maybe_send_resource_request", lambda: None)
        monkeypatch.setattr(self.policy, "_own", self.own)
        monkeypatch.setattr(
            capacity, "nodes", lambda: [Node(name, ONE, {"CPU": free}) for name, free in self.free.items()]
        )
        monkeypatch.setattr(capacity, "holders", lambda: {"CPU": {"run x": 2.0}})
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        for module in (elastic, capacity):
            monkeypatch.setattr(module, "time", clock)

    def own(self) -> list[Group]:
        return [Group("g", "me", "job", tuple((node, ONE) for node in self.held))] if self.held else []

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def start(self) -> int | None:
        """How many workers it decides to start."""
        decision = self.policy.make_decision_for_non_running_worker_group()
        return getattr(decision, "num_workers", None)

    def go_on(self, workers: int) -> int | None:
        """How many it decides to have while `workers` work."""
        self.now += 10
        state = SimpleNamespace(num_workers=workers)
        decision = self.policy.make_decision_for_running_worker_group(state, None)
        return getattr(decision, "num_workers", None)

    def said(self, kind: str) -> list[str]:
        told, _ = self.events.since(0)
        return [str(event.get("for") or event.get("why")) for event in told if event["event"] == kind]


@pytest.fixture
def run(store: Store) -> Run:
    return Run.create(store, "elastic", RunSpec("toy", "tests.toy:workload", {}, "data", workers=2))


def made(run: Run, monkeypatch: pytest.MonkeyPatch, workers: Any = (2, 4)) -> Cluster:
    return Cluster(run.path, workers, monkeypatch)


def checkpoint(run: Run, step: int) -> None:
    (run.checkpoints / f"{step:08d}").mkdir(parents=True)


def test_it_starts_at_once_with_all_and_after_a_second_look_with_fewer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = made(run, monkeypatch)
    cluster.free = dict.fromkeys("abcdef", 1.0)
    assert cluster.start() == 4
    cluster.free = dict.fromkeys("abc", 1.0)
    assert [cluster.start(), cluster.start()] == [None, 3]
    cluster.free = dict.fromkeys("ab", 1.0)
    assert cluster.start() is None
    cluster.free = dict.fromkeys("abc", 1.0)  # it still changes
    assert [cluster.start(), cluster.start()] == [None, 3]
    assert cluster.said("waiting") == []


def test_it_waits_for_the_least_and_says_so_when_that_changes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = made(run, monkeypatch)
    cluster.free = {"a": 1.0, "b": 0.0}
    assert [cluster.start() for _ in range(30)] == [None] * 30
    assert cluster.said("waiting") == ["needs 2 CPUs, 1 of 2 free; held by run x (2)"]
    cluster.free = {"a": 1.0}  # the other one died
    assert [cluster.start() for _ in range(3)] == [None] * 3
    assert cluster.said("waiting")[1:] == ["needs 2 CPUs, 1 of 1 free; held by run x (2)"]
    cluster.free = {"a": 1.0, "c": 1.0}
    assert [cluster.start(), cluster.start()] == [None, 2]
    assert cluster.said("restart") == ["2 find a place"]


def test_before_it_waits_it_gives_back_what_is_left_of_its_group(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = made(run, monkeypatch, workers=2)
    cluster.free, cluster.held = {"a": 0.0}, ["a", "gone"]
    assert [cluster.start(), cluster.start()] == [None, 2]  # Ray ends the old group, and finds no place
    cluster.held, cluster.free = [], {"a": 1.0}
    assert cluster.start() is None


def test_after_a_death_its_own_places_count_but_not_those_on_a_dead_node(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = made(run, monkeypatch)
    cluster.free, cluster.held = dict.fromkeys("abcd", 0.0), list("abcd")
    assert cluster.go_on(4) is None
    del cluster.free["d"], cluster.free["c"]
    assert [cluster.start(), cluster.start()] == [None, 2]
    assert cluster.said("restart") == ["2 find a place, there were 4"]


def test_it_grows_right_after_a_checkpoint_and_not_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = made(run, monkeypatch)
    checkpoint(run, 10)
    cluster.free, cluster.held = {"a": 0.0, "b": 0.0}, ["a", "b"]
    assert cluster.go_on(2) is None
    cluster.free["c"] = 1.0
    assert [cluster.go_on(2), cluster.go_on(2)] == [None, None]
    del cluster.free["c"]  # it went again
    checkpoint(run, 20)
    assert cluster.go_on(2) is None
    cluster.free["c"] = 1.0
    assert cluster.go_on(2) is None
    checkpoint(run, 30)
    assert cluster.go_on(2) == 3


def test_a_group_that_is_large_enough_stays(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = made(run, monkeypatch)
    cluster.free, cluster.held = dict.fromkeys("abcdef", 0.0) | {"e": 1.0}, list("abcd")
    for step in (10, 20):
        checkpoint(run, step)
        assert cluster.go_on(4) is None


def test_a_node_that_is_about_to_go_is_left_if_enough_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = made(run, monkeypatch)
    cluster.free, cluster.held = {"a": 0.0, "b": 0.0}, ["a", "b", "draining"]
    assert cluster.go_on(3) is None
    checkpoint(run, 10)
    assert cluster.go_on(3) == 2
    fixed = made(run, monkeypatch, workers=3)
    fixed.free, fixed.held = {"a": 0.0, "b": 0.0}, ["a", "b", "draining"]
    assert fixed.go_on(3) is None
    checkpoint(run, 20)
    assert fixed.go_on(3) is None  # as long as it can
    fixed.free["new"] = 1.0
    assert fixed.go_on(3) is None
    checkpoint(run, 30)
    assert fixed.go_on(3) == 3
