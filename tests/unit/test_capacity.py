"""How many workers fit, and how a run says why it waits."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import capacity
from penstock.capacity import Group, Node, explain, room
from penstock.experiment.queue import runs
from penstock.store import Store
from penstock.training.events import EventLog
from penstock.training.run import Run, RunSpec


def node(name: str, total: float, free: float, gpus: float = 0.0) -> Node:
    return Node(name, {"CPU": total, "GPU": gpus}, {"CPU": free, "GPU": gpus} if free or gpus else {})


ONE = {"CPU": 1.0}


def test_workers_are_counted_node_by_node() -> None:
    three = [node("a", 4, 3), node("b", 4, 1.5), node("c", 4, 0)]
    assert room(three, ONE) == 4
    assert room(three, {"CPU": 2.0}) == 1
    assert room(three, {"CPU": 0.1}) == 45
    assert room(three, {"CPU": 1.0, "GPU": 1.0}) == 0
    assert room([node("a", 4, 4, gpus=1.0)], {"CPU": 1.0, "GPU": 0.5}) == 2
    assert room([], ONE) == 0


def test_what_a_run_holds_itself_counts_as_free_but_not_on_a_node_that_is_gone() -> None:
    own = Group("g", "me", "job", (("a", ONE), ("a", ONE), ("gone", ONE)))
    assert room([node("a", 2, 0), node("b", 2, 1)], ONE, [own]) == 3
    assert room([node("a", 4, 1.5)], {"CPU": 1.5}, [Group("g", "me", "job", (("a", ONE),))]) == 1


def test_why_it_waits_is_one_line() -> None:
    held = {"CPU": {"run x": 2.0, "search y": 1.0, "endpoint": 0.5}}
    assert explain(2, ONE, [node("a", 4, 0.5)], held) == (
        "needs 2 CPUs, 0.5 of 4 free; held by run x (2), search y (1), endpoint (0.5)"
    )
    assert explain(2, ONE, [node("a", 1, 1)], {}) == "needs 2 CPUs, 1 of 1 free"
    assert explain(1, ONE, [node("a", 4, 0)], {}) == "needs 1 CPU, 0 of 4 free"
    assert (
        explain(2, {"CPU": 1.0, "GPU": 1.0}, [node("a", 8, 8, gpus=1.0)], {}) == "needs 2 GPUs, 1 of 1 free"
    )
    text = explain(2, {"CPU": 4.0}, [node("a", 6, 6), node("b", 6, 3)], held)
    assert text == "needs 2 times 4 CPUs, each on one node; free on one node: at most 6 CPUs"


def test_a_reason_is_said_once_after_a_while_and_that_it_is_past(monkeypatch: pytest.MonkeyPatch) -> None:
    now, free = [100.0], [0.0]
    monkeypatch.setattr(capacity.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(capacity, "nodes", lambda: [node("a", 4, free[0])])
    monkeypatch.setattr(capacity, "holders", lambda: {"CPU": {"run x": 4.0 - free[0]}})
    patience = capacity.Patience()

    def news(after_s: float, *lacking: dict[str, float]) -> str | None:
        now[0] += after_s
        return patience.news(lacking)

    assert news(0, ONE) is None and news(2.9, ONE) is None  # what has just ended gives back
    assert news(0) is None and news(1, ONE) is None and news(2.9, ONE) is None  # it waits anew
    assert news(0.1, ONE, ONE) == "needs 2 CPUs, 0 of 4 free; held by run x (4)"
    assert news(1, ONE, ONE) is None
    free[0] = 1.0
    assert news(1, ONE, ONE) == "needs 2 CPUs, 1 of 4 free; held by run x (3)"
    assert news(1, ONE, {"CPU": 0.5}) == "needs 1.5 CPUs, 1 of 4 free; held by run x (3)"
    free[0] = 2.0
    assert news(1, ONE, ONE) is None, "there is room: it is about to be placed"
    assert news(0) == "" and news(5) is None
    assert news(5, ONE, ONE) is None, "a new wait begins with silence, too"


@pytest.mark.parametrize(
    "told, state, reason",
    [
        (["starting"], "running", None),
        (["starting", "waiting"], "waiting", "needs 2 CPUs"),
        (["starting", "waiting", "restart"], "running", None),
        (["starting", "start", "step", "waiting"], "waiting", "needs 2 CPUs"),  # it lost a node
        (["starting", "waiting", "starting"], "running", None),  # another driver
    ],
)
def test_runs_says_who_waits(told: list[str], state: str, reason: str | None, store: Store, cli: Any) -> None:
    run = Run.create(store, "patient", RunSpec("toy", "tests.toy:workload", {}, "data", workers=2))
    assert runs(store)[0]["state"] == "new"  # its driver has yet to begin
    for kind in told:
        EventLog(run.path / "events.jsonl").append(
            {"event": kind, **({"for": "needs 2 CPUs"} if kind == "waiting" else {"step": 3})}
        )
    assert runs(store)[0]["state"] == "stopped"  # whatever it said: its driver is gone
    with run.driver_lease():
        (row,) = runs(store)
        assert (row["state"], row["waits_for"]) == (state, reason)
        shown = cli("runs", "--store", store.root).out.splitlines()
    assert f"  {state}  " in shown[1]
    assert ("patient waits: needs 2 CPUs" in shown) == (reason is not None)
    assert max(map(len, shown)) <= 110
