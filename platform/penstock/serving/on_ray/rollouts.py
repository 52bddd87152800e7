"""All lanes of an endpoint, looked at again and again, and the traffic that follows from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Protocol

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from penstock import capacity, registry
from penstock.errors import ModelError, PenstockError, StoreError
from penstock.serving.versions.loading import Counts, Event, Slots
from penstock.serving.versions.rollout import lanes
from penstock.serving.versions.traffic import Traffic
from penstock.store import Store, in_bucket

_TICK_S = 0.25
_FAR_S = 1.0  # where each look is a few requests to a bucket
_NEW_NAMES_S = 2.0
_PLACES_S = 1.0


class Switchable(Slots, Protocol):
    """Slots, and the gateways that send requests to them."""

    def turn(self, traffic: Traffic) -> None: ...

    def turned(self, traffic: Traffic) -> bool: ...

    def following(self, traffic: Traffic) -> int: ...

    def counts(self) -> Counts: ...

    def unplaced(self) -> Sequence[Mapping[str, float]]: ...

    def close(self) -> None: ...


class Rollouts:
    """Keeps an endpoint at what the registry says, from a thread of its own.

    `references`: what is served; none = every model that is live, also those that become so later.
    """

    def __init__(
        self,
        store: Store,
        references: Sequence[str],
        slots: Switchable,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.store, self.slots, self.tell = store, slots, tell
        self.all = not references
        self.lanes = lanes(store, references or live(store), slots, tell)
        self.traffic = Traffic(0, (), tuple(lane.name for lane in self.lanes))
        self._said: dict[str, str] = {}
        self._looked = self._placed = monotonic()
        self._patience = capacity.Patience()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def adopt(self, traffic: Traffic) -> None:
        """Goes on, before `start`, from the traffic that another process left."""
        self.traffic = Traffic(traffic.number, traffic.ways, self.traffic.waiting)
        for lane in self.lanes:
            try:
                lane.adopt([way for way in traffic.ways if way.model.name == lane.name])
            except ModelError as error:  # its version is gone from the store: another one is loaded
                self._say(lane.name, str(error))

    def start(self) -> None:
        """Begins to look, about four times a second."""
        self.slots.turn(self.traffic)
        self._thread.start()

    def stop(self) -> None:
        """Nothing is loaded or switched any more. Harmless twice, and before `start`."""
        self._ends.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def runs(self) -> bool:
        """Whether it looks."""
        return self._thread.is_alive()

    def apps(self) -> list[str]:
        """Every application that may hold a version."""
        return [app for lane in self.lanes for app in lane.apps()]

    def wait(self, gateways: int, seconds: float) -> None:
        """Until every lane has a version that answers and so many gateways know it; ModelError in one line
        for a lane that cannot have one."""
        until = monotonic() + seconds
        while waiting := self._waiting(gateways):
            for lane in self.lanes:
                if lane.failed and not lane.ways():
                    raise ModelError(f"{lane.name} cannot be served: {lane.failed}")
            if monotonic() > until or not self.runs:
                raise PenstockError(
                    f"not ready after {seconds:.0f} s: {', '.join(waiting)}; `penstock doctor` tells more"
                )
            self._ends.wait(0.05)

    def _waiting(self, gateways: int) -> list[str]:
        """What is not ready, by name."""
        names = {way.model.name for way in self.traffic.ways}
        found = [lane.name for lane in self.lanes if lane.name not in names]
        if not found and self.slots.following(self.traffic) < gateways:
            return ["a gateway"]
        return found

    def tick(self) -> None:
        """Looks at everything once."""
        counts = self.slots.counts()
        if self.all and monotonic() - self._looked > _NEW_NAMES_S:
            self._looked = monotonic()
            known = {lane.name for lane in self.lanes}
            new = [name for name in live(self.store) if name not in known]
            self.lanes += lanes(self.store, new, self.slots, self.tell)
        for lane in self.lanes:
            try:
                lane.tick(counts)
                self._said.pop(lane.name, None)
            except PenstockError as error:  # what is served goes on
                self._say(lane.name, str(error))
        now = self.traffic.after(
            [way for lane in self.lanes for way in lane.ways()],
            [waiting for lane in self.lanes if (waiting := lane.waiting())],
        )
        if now is not self.traffic or not self.slots.turned(now):
            self.slots.turn(now)
            self.traffic = now

    def _look_for_places(self) -> None:
        if monotonic() - self._placed < _PLACES_S:
            return
        self._placed = monotonic()
        news = self._patience.news(self.slots.unplaced())
        if news is not None:
            what = "waiting for a place:" if news else "has found its places"
            self.tell(Event("endpoint", what, news))

    def _say(self, name: str, what: str) -> None:
        if self._said.get(name) != what:
            self._said[name] = what
            self.tell(Event(name, "not followed", what))

    def _run(self) -> None:
        while not self._ends.wait(_FAR_S if in_bucket(self.store.root) else _TICK_S):
            try:
                self._look_for_places()
                self.tick()
                self._said.pop("", None)
            except (RayError, RayServeException, StoreError, OSError, RuntimeError) as error:
                # a switch or a controller that is being started again, a bucket out of reach
                self._say("", (str(error).splitlines() or [type(error).__name__])[0][:200])


def live(store: Store) -> list[str]:
    """Every model that has a live version, by name."""
    found = []
    for name in registry.names(store):
        try:
            if registry.LIVE in registry.aliases(store, name):
                found.append(name)
        except ModelError:
            continue  # `penstock models` says what is wrong with it
    return found
