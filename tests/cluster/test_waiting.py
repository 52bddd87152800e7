"""A run whose workers find no place waits, says what for, and goes on when there is room."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from penstock import capacity
from penstock.errors import RunError
from penstock.experiment import runs, train
from penstock.store import Store
from penstock.training.events import EventLog


@pytest.mark.usefixtures("ray_session")
def test_a_run_waits_for_what_another_holds_and_says_so_until_it_is_free(store: Store) -> None:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    capacity.hold("search s")
    group = placement_group([{"CPU": 2.5}])
    assert group.wait(30)
    endpoint = ray.remote(num_cpus=0.5)(Replica).remote()
    assert ray.get(endpoint.ready.remote())
    held = capacity.holders()["CPU"]
    assert held["search s"] == 3.0  # a driver's name covers what its job holds without a name of its own
    assert sum(node.free.get("CPU", 0.0) for node in capacity.nodes()) == 1.0

    told: list[dict[str, Any]] = []
    waits, seen = threading.Event(), []

    def on_event(event: dict[str, Any]) -> None:
        told.append(event)
        if event["event"] == "waiting":
            seen.append(runs(store)[0])
            waits.set()

    def give_way() -> None:
        if waits.wait(120):
            remove_placement_group(group)

    other = threading.Thread(target=give_way)
    other.start()
    try:
        result = train("toy", store=store, workers=2, name="patient", on_event=on_event)
    finally:
        waits.set()
        other.join()
        remove_placement_group(group)
        ray.kill(endpoint)
    (line,) = [event["for"] for event in told if event["event"] == "waiting"]
    assert line == "needs 2 CPUs, 1 of 4 free; held by search s (3)"
    assert seen[0]["state"] == "waiting" and seen[0]["waits_for"] == line
    assert runs(store)[0]["state"] == "finished" and runs(store)[0]["waits_for"] is None
    assert result.attempts[0]["workers"] == 2 and len(result.attempts) == 1
    assert EventLog(store.runs / "patient" / "events.jsonl").since(0)[0]


class Replica:
    def ready(self) -> bool:
        return True


@pytest.mark.usefixtures("ray_session")
def test_workers_too_large_for_any_node_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [capacity.Node(name, {"CPU": 2.0}, {"CPU": 2.0}) for name in "ab"]
    monkeypatch.setattr(capacity, "nodes", lambda: two)
    with pytest.raises(RunError, match=r"needs 1 times 4 CPUs, each on one node; .* at most 2 CPUs; lower"):
        train("toy", store=store, workers=(1, 2), threads=4)
