"""A run whose workers find no place waits, says what for, and goes on when there is room."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import api, capacity
from penstock.errors import RunError
from penstock.experiment import runs, train
from penstock.prediction import predict
from penstock.serving.server import serve
from penstock.serving.versions.loading import Event
from penstock.store import Store
from penstock.training.events import EventLog
from penstock.tuning.tune import tune
from tests import probe

PLACED = "has found its places"


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


class Other:
    """Another tenant: what it holds is said to be run x's."""

    def take(self, cpus: float) -> bool:
        from ray.util.placement_group import placement_group

        capacity.hold("run x")
        self.group = placement_group([{"CPU": cpus}])
        return bool(self.group.wait(30))

    def leave(self) -> None:
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self.group)


@pytest.fixture
def full(ray_session: None, store: Store) -> Iterator[Callable[[], None]]:
    """A cluster without a free CPU; the function gives them all back."""
    import ray

    api.prepare("toy", "synthetic", preset="smoke", store=store)  # Ray Data needs a CPU
    other = ray.remote(num_cpus=0)(Other).remote()
    assert ray.get(other.take.remote(4))
    yield lambda: ray.get(other.leave.remote())
    ray.get(other.leave.remote())
    ray.kill(other)


def test_a_search_without_a_place_says_so_and_goes_on(store: Store, full: Callable[[], None]) -> None:
    told: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    held: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        told.append(event)
        if event["event"] == "waiting":
            threading.Thread(target=watch).start()  # this one is needed to go on

    def watch() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (held and rows[-1]["waits_for"] is None):
            rows.append(api.runs(store=store)[0])
            if rows[-1]["state"] == "waiting" and not held:
                held.extend(capacity.holders()["CPU"])
                full()
        held.extend(capacity.holders()["CPU"])

    result = tune("toy", preset="smoke", trials=1, scheduler="none", name="q", store=store, on_event=on_event)
    (line,) = [event["for"] for event in told if event["event"] == "waiting"]
    assert line == "needs 1 CPU, 0 of 4 free; held by run x (4)"
    assert ("waiting", line) in [(row["state"], row["waits_for"]) for row in rows]
    assert (rows[-1]["state"], rows[-1]["waits_for"]) == ("running", None)
    assert held == ["run x", "search q"]
    assert [row["state"] for row in result.trials] == ["finished"]
    assert api.runs(store=store)[0]["state"] == "finished"


def test_a_trial_whose_workers_find_no_place_says_so(store: Store, full: Callable[[], None]) -> None:
    told: list[dict[str, Any]] = []

    def on_event(event: dict[str, Any]) -> None:
        told.append(event)
        if event["event"] == "waiting":
            full()

    result = tune(
        "toy", preset="smoke", trials=1, scheduler="none", workers=2, store=store, on_event=on_event
    )
    (line,) = [event["for"] for event in told if event["event"] == "waiting"]
    assert line == "needs 2 CPUs, 0 of 4 free; held by run x (4)"
    states = [event["state"] for event in told if event["event"] == "trial"]
    assert states == ["running", "waiting", "running", "finished"]
    assert [row["state"] for row in result.trials] == ["finished"]


def test_data_that_finds_no_place_to_be_prepared_says_so(store: Store, full: Callable[[], None]) -> None:
    told: list[dict[str, Any]] = []

    def on_event(event: dict[str, Any]) -> None:
        told.append(event)
        if event["event"] == "waiting":
            threading.Thread(target=full).start()

    dataset = api.prepare("toy", "synthetic", preset="smoke", seed=1, store=store, on_event=on_event)
    (line,) = [event["for"] for event in told if event["event"] == "waiting"]
    assert line == "needs 1 CPU, 0 of 4 free; held by run x (4)"
    assert told.index({"event": "waiting", "for": line}) == 0 and dataset.counts["train"] > 0


def test_a_folder_that_finds_no_place_to_be_answered_says_so(
    store: Store, full: Callable[[], None], tmp_path: Path
) -> None:
    probe.publish(store)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(probe.png())
    told: list[dict[str, Any]] = []

    def on_event(event: dict[str, Any]) -> None:
        told.append(event)
        threading.Thread(target=full).start()

    places = {"output": tmp_path / "answers.parquet", "store": store, "on_event": on_event}
    assert predict("probe", tmp_path / "pictures", **places)["items"] == 1
    assert told == [{"event": "waiting", "for": "needs 1 CPU, 0 of 4 free; held by run x (4)"}]


def test_an_endpoint_without_a_place_says_so_and_is_there_when_it_has_one(
    store: Store, full: Callable[[], None]
) -> None:
    probe.publish(store)
    told: list[Event] = []

    def on_event(event: Event) -> None:
        told.append(event)
        if event.what.startswith("waiting"):
            full()

    with serve(store=store, port=0, block=False, on_event=on_event) as endpoint:
        assert endpoint.models == ["probe@1"]
    (line,) = [event.detail for event in told if event.model == "endpoint" and event.what != PLACED]
    assert re.fullmatch(r"needs [\d.]+ CPUs, 0 of 4 free; held by run x \(4\)", line)


@pytest.mark.usefixtures("ray_session")
def test_workers_too_large_for_any_node_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [capacity.Node(name, {"CPU": 2.0}, {"CPU": 2.0}) for name in "ab"]
    monkeypatch.setattr(capacity, "nodes", lambda: two)
    with pytest.raises(RunError, match=r"needs 1 times 4 CPUs, each on one node; .* at most 2 CPUs; lower"):
        train("toy", store=store, workers=(1, 2), threads=4)
