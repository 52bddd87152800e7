"""Versions in motion, with slots that load at a word: what gets traffic, when, and what never does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from penstock import registry
from penstock.errors import ModelError
from penstock.serving.served import Served
from penstock.serving.versions.loading import Event, Examined
from penstock.serving.versions.rollout import START_S, Lane, lanes
from penstock.store import Store
from tests import probe


@dataclass
class Loaded:
    """A fake of the slots: a version runs once `finish` says so."""

    apps: dict[str, Served] = field(default_factory=dict)
    faults: dict[str, str | None] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    labels: dict[int, list[bytes]] = field(default_factory=dict)

    def load(self, app: str, model: Served) -> None:
        self.apps[app], self.faults[app] = model, None
        self.loads.append(model.title)

    def fault(self, app: str) -> str | None:
        return self.faults[app]

    def unload(self, app: str) -> None:
        self.unloads.append(self.apps.pop(app).title)

    def examine(self, app: str) -> Examined | None:
        return Examined((self.took.get(self.apps[app].version, 0.01),) * 5, ("chat",))

    def labelled(self, title: str) -> Sequence[bytes]:
        return self.labels[int(title.partition("@")[2])]

    def finish(self, why: str = "") -> None:
        """What is being loaded runs, or cannot, and why."""
        for app, fault in self.faults.items():
            if fault is None:
                self.faults[app] = why


class World:
    """A store with one served name, and the clock."""

    def __init__(self, store: Store, reference: str = "probe") -> None:
        self.store, self.slots, self.now = store, Loaded(), 0.0
        self.events: list[Event] = []
        self.counts: list[dict[str, Any]] = []
        (self.lane,) = lanes(store, [reference], self.slots, self.events.append)
        self.lane.clock = lambda: self.now

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.lane.tick(self.counts)

    def roll(self, why: str = "") -> None:
        """Everything that can happen to a version that is asked for."""
        self.tick()
        self.slots.finish(why)
        self.tick(2)

    def serves(self) -> dict[str, float]:
        return {way.model.title: round(way.share, 4) for way in self.lane.ways()}

    def count(self, **versions: tuple[int, int, float]) -> None:
        """Requests, faults and seconds of each version, v1=…, all there are."""
        self.counts = [
            {
                f"probe@{version[1:]}": {
                    "requests": n,
                    "faults": bad,
                    "labelled": len(self.slots.labels.get(int(version[1:]), ())),
                    "recent": [seconds] * min(n, 256),
                }
                for version, (n, bad, seconds) in versions.items()
            }
        ]

    def live(self) -> int:
        return registry.aliases(self.store, "probe")["live"]


@pytest.fixture
def world(store: Store) -> World:
    probe.publish(store, right=180)
    world = World(store)
    world.roll()
    assert world.serves() == {"probe@1": 1.0}
    return world


# ---------------------------------------------------------------- all at once


def test_nothing_is_served_before_it_runs(store: Store) -> None:
    probe.publish(store)
    world = World(store)
    assert world.lane.waiting() == "probe"
    world.tick(3)
    assert world.serves() == {} and world.lane.waiting() == "probe@1" and world.slots.loads == ["probe@1"]
    world.slots.finish()
    world.tick()
    assert world.serves() == {"probe@1": 1.0} and world.lane.waiting() is None


def test_a_promoted_version_takes_over_once_it_runs_and_the_way_back_is_at_once(world: World) -> None:
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2)
    world.tick(5)
    assert world.serves() == {"probe@1": 1.0}, "before it runs"
    world.slots.finish()
    world.tick()
    assert world.serves() == {"probe@2": 1.0}
    registry.promote(world.store, "probe", 1)
    world.tick()
    assert world.serves() == {"probe@1": 1.0}
    assert world.slots.loads == ["probe@1", "probe@2"] and not world.slots.unloads


def test_a_third_version_takes_the_slot_of_the_first(world: World) -> None:
    for version in (2, 3):
        probe.publish(world.store, right=180)
        registry.promote(world.store, "probe", version)
        world.roll()
    assert world.serves() == {"probe@3": 1.0}
    assert sorted(model.title for model in world.slots.apps.values()) == ["probe@2", "probe@3"]


@pytest.mark.parametrize("why", ["a scale of zero", "probe@2 does not answer its own example: no"])
def test_a_version_that_cannot_run_never_serves_and_live_goes_back(world: World, why: str) -> None:
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2)
    world.roll(why)
    assert world.serves() == {"probe@1": 1.0} and world.live() == 1
    assert registry.standing(world.store, "probe").withdrawn == {2: why}
    assert world.slots.unloads == ["probe@2"] and world.slots.loads.count("probe@2") == 1
    world.tick(5)
    assert world.slots.loads.count("probe@2") == 1, "it was tried again unasked"
    registry.promote(world.store, "probe", 2)
    world.roll()
    assert world.serves() == {"probe@2": 1.0}, "asked again, it has another chance"


def test_a_version_that_does_not_get_ready_is_given_up(world: World) -> None:
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2)
    world.tick()
    world.now += START_S + 1
    world.tick()
    assert world.live() == 1 and "not ready after 180 s" in world.events[-1].detail


def test_a_damaged_version_is_refused_before_it_is_loaded(world: World) -> None:
    version = probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2)
    (version.path / "weights.safetensors").write_bytes(b"")
    world.tick()
    assert world.serves() == {"probe@1": 1.0} and world.live() == 1
    assert world.slots.loads == ["probe@1"] and "damaged" in world.events[-1].detail


@pytest.mark.parametrize(
    ("right", "seconds", "why"),
    [(120, 0.01, "its accuracy is 0.6"), (180, 0.1, "it takes 100 ms where"), (178, 0.02, None)],
)
def test_a_version_that_is_worse_or_far_slower_gets_no_traffic_unless_it_is_forced(
    world: World, right: int, seconds: float, why: str | None
) -> None:
    probe.publish(world.store, right=right)
    world.slots.took[2] = seconds
    registry.promote(world.store, "probe", 2)
    world.roll()
    assert world.serves() == {"probe@1" if why else "probe@2": 1.0}
    if why:
        assert why in registry.standing(world.store, "probe").withdrawn[2]
        registry.promote(world.store, "probe", 2, force=True)
        world.roll()
        assert world.serves() == {"probe@2": 1.0} and world.live() == 2


def test_a_version_judged_on_other_items_is_not_called_worse(world: World) -> None:
    probe.publish(world.store)
    registry.promote(world.store, "probe", 2)
    world.roll()
    assert world.serves() == {"probe@2": 1.0}


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ((50, 5, 0.01), "5 of its 50 requests failed"),
        ((50, 0, 0.2), "it computes 200 ms"),
        ((50, 2, 0.03), ""),
    ],
)
def test_a_version_that_does_badly_after_the_switch_is_rolled_back(
    world: World, new: tuple[int, int, float], why: str
) -> None:
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2)
    world.count(v1=(1000, 0, 0.01))
    world.roll()
    assert world.serves() == {"probe@2": 1.0}
    world.now += 10
    world.count(v1=(1000, 0, 0.01), v2=new)
    world.tick(2)
    if why:
        assert world.serves() == {"probe@1": 1.0} and world.live() == 1
        assert why in registry.standing(world.store, "probe").withdrawn[2]
    else:
        assert world.serves() == {"probe@2": 1.0} and world.live() == 2


def test_what_fails_long_after_the_switch_is_not_the_switch(world: World) -> None:
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2)
    world.roll()
    world.now += 61
    world.tick()
    world.count(v1=(1000, 0, 0.01), v2=(50, 50, 0.01))
    world.tick()
    assert world.serves() == {"probe@2": 1.0}


# ---------------------------------------------------------------- a share at a time


def canary(world: World, share: float = 0.1) -> None:
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 2, "candidate", share)
    world.roll()
    assert world.serves() == {"probe@1": 0.9, "probe@2": 0.1}


def test_a_candidate_that_does_well_grows_until_it_is_live(world: World) -> None:
    canary(world)
    seen, requests = [], 0
    for _ in range(4):
        requests += 60
        world.now += 21
        world.count(v1=(10 * requests, 0, 0.01), v2=(requests, 0, 0.011))
        world.tick()
        seen.append(world.serves())
    assert [one.get("probe@2") for one in seen] == [0.25, 0.625, 1.0, 1.0]
    assert world.live() == 2 and registry.standing(world.store, "probe").shares == {}
    assert seen[-1] == {"probe@2": 1.0}


def test_a_candidate_grows_by_requests_and_not_by_time_alone(world: World) -> None:
    canary(world)
    world.now += 1000
    world.count(v1=(10_000, 0, 0.01), v2=(49, 0, 0.01))
    world.tick(3)
    assert world.serves() == {"probe@1": 0.9, "probe@2": 0.1}


@pytest.mark.parametrize(
    ("new", "why"), [((40, 4, 0.01), "4 of its 40 requests failed"), ((40, 0, 0.06), "it computes 60 ms")]
)
def test_a_candidate_that_does_badly_is_withdrawn(
    world: World, new: tuple[int, int, float], why: str
) -> None:
    canary(world)
    world.count(v1=(400, 1, 0.01), v2=new)
    world.tick(2)
    assert world.serves() == {"probe@1": 1.0} and world.live() == 1
    standing = registry.standing(world.store, "probe")
    assert why in standing.withdrawn[2] and standing.shares == {} and standing.aliases["candidate"] == 2
    world.tick(5)
    assert world.slots.loads.count("probe@2") == 1


@pytest.mark.parametrize(("right", "gone"), [(20, True), (37, False)])
def test_a_candidate_that_is_wrong_more_often_by_the_labels_that_came_back_is_withdrawn(
    world: World, right: int, gone: bool
) -> None:
    canary(world)
    world.slots.labels = {1: [record(i < 38) for i in range(40)], 2: [record(i < right) for i in range(40)]}
    world.count(v1=(400, 0, 0.01), v2=(45, 0, 0.01))
    world.tick(2)
    withdrawn = registry.standing(world.store, "probe").withdrawn
    assert (2 in withdrawn) == gone
    if gone:
        assert "its accuracy over 40 labelled requests" in withdrawn[2]


def record(right: bool) -> bytes:
    """An answer whose truth came back."""
    table = pa.table({"truth": ["left"], "said": ["left" if right else "right"], "score": [1.0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return bytes(sink.getvalue())


def test_a_candidate_whose_share_is_taken_away_stops_at_once(world: World) -> None:
    canary(world)
    registry.promote(world.store, "probe", 2, "candidate")
    world.tick()
    assert world.serves() == {"probe@1": 1.0}


def test_a_candidate_without_a_share_is_not_loaded(world: World) -> None:
    probe.publish(world.store, right=180)
    assert registry.aliases(world.store, "probe")["candidate"] == 2
    world.tick(3)
    assert world.slots.loads == ["probe@1"]


def test_a_candidate_that_is_made_live_by_hand_takes_over_at_once(world: World) -> None:
    canary(world)
    registry.promote(world.store, "probe", 2)
    world.tick()
    assert world.serves() == {"probe@2": 1.0} and world.slots.loads.count("probe@2") == 1


def test_another_live_version_ends_a_trial(world: World) -> None:
    canary(world)
    probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", 3)
    world.tick()
    assert world.serves() == {"probe@1": 1.0}
    world.roll()
    assert world.serves() == {"probe@3": 1.0}


# ---------------------------------------------------------------- what is followed


def test_a_version_that_is_named_stays(store: Store) -> None:
    probe.publish(store)
    probe.publish(store)
    world = World(store, "probe@1")
    world.roll()
    registry.promote(store, "probe", 2)
    world.roll()
    assert world.serves() == {"probe@1": 1.0} and world.slots.loads == ["probe@1"]


def test_another_alias_can_be_followed_and_goes_back_by_itself(store: Store) -> None:
    probe.publish(store)
    probe.publish(store)
    registry.promote(store, "probe", 1, "blue")
    world = World(store, "probe@blue")
    world.roll()
    registry.promote(store, "probe", 2, "blue")
    world.roll("no")
    assert world.serves() == {"probe@1": 1.0} and registry.aliases(store, "probe")["blue"] == 1


def test_two_endpoints_follow_one_registry(store: Store) -> None:
    probe.publish(store, right=180)
    one, two = World(store), World(store)
    one.roll(), two.roll()
    probe.publish(store, right=180)
    registry.promote(store, "probe", 2)
    one.roll(), two.tick()
    assert one.serves() == {"probe@2": 1.0} and two.serves() == {"probe@1": 1.0}
    two.slots.finish("its machine has no room"), two.tick(2)
    one.tick()
    assert one.serves() == two.serves() == {"probe@1": 1.0}, "one endpoint's refusal holds for all"


def test_a_damaged_alias_file_stops_nothing(world: World) -> None:
    (world.store.models / "probe" / "aliases.json").write_text("{")
    with pytest.raises(ModelError, match="aliases of model probe are damaged"):
        world.tick()
    assert world.serves() == {"probe@1": 1.0}


def test_one_name_has_one_lane(store: Store) -> None:
    assert [
        (lane.name, lane.follows, lane.fixed) for lane in lanes(store, ["a", "a@live", "b@3"], Loaded())
    ] == [
        ("a", "live", None),
        ("b", None, 3),
    ]
    with pytest.raises(ModelError, match="named twice"):
        lanes(store, ["a", "a@3"], Loaded())


def test_first_version_that_cannot_run_is_told_and_stays_absent(store: Store) -> None:
    probe.publish(store)
    world = World(store)
    world.roll("a scale of zero")
    world.tick(3)
    assert world.lane.failed == "a scale of zero" and world.serves() == {}
    assert world.slots.loads == ["probe@1"] and isinstance(world.lane, Lane)


# ---------------------------------------------------------------- another process goes on


def successor(world: World) -> World:
    """Another process in its place: it knows the registry, and the traffic that the gateways go by."""
    after = World(world.store)
    after.slots = after.lane.slots = world.slots
    after.lane.adopt(world.lane.ways())
    world.slots.loads.clear()
    return after


def test_who_answers_goes_on_when_another_process_takes_over(world: World) -> None:
    app = world.lane.ways()[0].app
    after = successor(world)
    assert after.serves() == {"probe@1": 1.0} and after.lane.waiting() is None
    after.roll()
    assert after.lane.ways() == world.lane.ways() and after.slots.loads == []
    new = probe.publish(world.store, right=185)
    registry.promote(world.store, "probe", new.version)
    after.roll()
    assert after.serves() == {new.reference: 1.0} and after.slots.loads == [new.reference]
    assert after.lane.ways()[0].app != app, "it was loaded over the one that answered"


def test_a_candidate_begins_anew_with_what_is_asked_for_it(world: World) -> None:
    new = probe.publish(world.store, right=180)
    registry.promote(world.store, "probe", new.version, "candidate", 0.1)
    world.roll()
    assert world.serves() == {"probe@1": 0.9, new.reference: 0.1}
    after = successor(world)
    after.tick()
    assert after.serves() == {"probe@1": 0.9, new.reference: 0.1} and after.slots.loads == []
    assert set(after.lane.apps()) == {way.app for way in world.lane.ways()}


def test_nothing_to_adopt_is_a_start(store: Store) -> None:
    probe.publish(store)
    world = World(store)
    world.lane.adopt([])
    world.roll()
    assert world.serves() == {"probe@1": 1.0}
