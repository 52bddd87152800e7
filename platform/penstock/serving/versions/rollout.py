"""Versions in motion: each served name has two slots. A new version is loaded into the idle one, answers its
own example there, and takes the traffic at once or a share at a time; the one before stays loaded, so that
the way back is as short.

What should be served is the registry's business (its aliases and shares), and followed from there; any
number of endpoints may follow one registry. Nothing here knows Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from penstock import registry
from penstock.errors import ModelError
from penstock.registry import CANDIDATE, LIVE, Pointers, Version
from penstock.serving.served import Served
from penstock.serving.versions import gate, tally
from penstock.serving.versions.loading import Counts, Event, Examined, Slot, Slots
from penstock.serving.versions.tally import Tally
from penstock.serving.versions.traffic import Way
from penstock.store import Store

START_S = 180.0  # for a version to load and answer its example
_BAKE_S = 60.0  # after a switch, in which the new version is watched
_BAKED_SLOWER = 5.0  # times the median of the version before: load may have changed with the switch
_GROWTH = 2.5  # of a candidate's share, each time it has done well
_STEP_S = 20.0  # at each share
_STEP_REQUESTS = 50


@dataclass
class Lane:
    """One served name. `follows`: the alias that says which version answers; None = `fixed`, always."""

    name: str
    follows: str | None
    fixed: int | None
    store: Store
    slots: Slots
    tell: Callable[[Event], None] = lambda event: None
    clock: Callable[[], float] = monotonic
    failed: str = ""
    """Why there is nothing to answer with, as long as there is nothing."""
    share: float = 0.0
    """Of the candidate, in the idle slot."""
    _main: Slot = field(init=False)
    _idle: Slot = field(init=False)
    _refused: dict[int, str] = field(default_factory=dict)
    _base: dict[str, Tally] = field(default_factory=dict)
    _changed: float = 0.0
    _baking: bool = False
    _judged: int = 0
    _pointers: Pointers = field(default_factory=Pointers)

    def __post_init__(self) -> None:
        self._main, self._idle = Slot(f"model-{self.name}-b"), Slot(f"model-{self.name}-a")

    # ---------------------------------------------------------------- what gateways are told

    def ways(self) -> list[Way]:
        """Who answers now: nobody yet, one version, or two."""
        if self._main.version is None:
            return []
        main, idle = self._main, self._idle
        ways = [Way(main.app, self._served(self._main.version), 1 - self.share, main.able)]
        if self.share and idle.version is not None:
            ways.append(Way(idle.app, self._served(idle.version), self.share, idle.able))
        return ways

    def waiting(self) -> str | None:
        """What has to be loaded before anything answers."""
        if self._main.version is not None:
            return None
        return self._idle.version.reference if self._idle.version else self.name

    def apps(self) -> list[str]:
        """The applications that hold versions."""
        return [slot.app for slot in (self._main, self._idle) if slot.version is not None]

    def _served(self, version: Version) -> Served:
        names = [alias for alias, number in self._pointers.aliases.items() if number == version.version]
        names.sort(key=lambda alias: (alias != LIVE, alias))
        return Served(version.name, version.version, tuple(names), version.card)

    def adopt(self, ways: Sequence[Way]) -> None:
        """Goes on from where another process left this name: who answers stays, a candidate begins anew with
        the share that is asked for. ModelError when the registry does not know the version."""
        taken = [
            Slot(way.app, registry.find(self.store, way.model.title), True, way.able, self.clock())
            for way in ways
        ]
        if taken:
            free = [slot for slot in (self._main, self._idle) if slot.app != taken[0].app]
            self._main, self._idle = (taken + free)[:2]

    # ---------------------------------------------------------------- one look at everything

    def tick(self, counts: Counts = ()) -> None:
        """Goes on by what the registry and the counts say. ModelError when the registry cannot be read;
        what is served stays."""
        self._pointers = registry.standing(self.store, self.name)
        aliases = self._pointers.aliases
        wanted = self.fixed if self.follows is None else aliases.get(self.follows)
        if wanted is None:
            return  # an alias that went away takes no model with it
        self._refused = {version: why for version, why in self._refused.items() if self._concerns(version)}
        if self._main.version is None or wanted != self._main.version.version:
            if self.share and (self._idle.version is None or self._idle.version.version != wanted):
                self.share = 0.0
            if wanted not in self._refused and self._loaded(wanted):
                self._switch(counts)
            return
        if self._baking:
            self._watch(counts)
        candidate = aliases.get(CANDIDATE)
        asked = self._pointers.shares.get(CANDIDATE)
        if self.follows == LIVE and asked and candidate not in (None, wanted) and not self._baking:
            assert candidate is not None
            if candidate not in self._refused and self._loaded(candidate):
                self._try(candidate, asked, counts)
        elif self.share:
            self.share = 0.0

    def _concerns(self, version: int) -> bool:
        """Whether a refused version is still asked for: asked again later, it has another chance."""
        pointed = {self.fixed} if self.follows is None else set(self._pointers.aliases.values())
        return version in pointed and (
            self._main.version is None or version in self._pointers.withdrawn or self.follows is None
        )

    # ---------------------------------------------------------------- loading

    def _loaded(self, number: int) -> bool:
        """Whether version `number` stands ready in the idle slot; sees to it that it will."""
        idle = self._idle
        if idle.version is None or idle.version.version != number:
            try:
                version = registry.find(self.store, f"{self.name}@{number}")
                registry.verify(version)
            except ModelError as error:
                self._reject(number, str(error))
                return False
            self.slots.load(idle.app, self._served(version))
            self._idle = Slot(idle.app, version, since=self.clock())
            self.tell(Event(self.name, "loading", version.reference))
            return False
        if idle.ready:
            return True
        why = self.slots.fault(idle.app)
        if why is None and self.clock() - idle.since > START_S:
            why = f"it was not ready after {START_S:.0f} s"
        if why == "":
            found = self.slots.examine(idle.app)
            if found is None:
                return False  # its replica died while it was asked; another one is on its way
            why = self._unfit(idle, found) or ""
            idle.ready, idle.able = not why, found.able
        if why:
            self._refuse(why)
        return idle.ready

    def _unfit(self, slot: Slot, found: Examined) -> str | None:
        """Why a version that runs may still not have traffic."""
        old, new = self._main.version, slot.version
        if old is None or new is None or new.version in self._pointers.forced:
            return None
        now = self.slots.examine(self._main.app)
        return gate.worse(self.store, new, old) or gate.slower(found.seconds, now.seconds if now else ())

    def _refuse(self, why: str) -> None:
        """What the idle slot holds gets no traffic, and goes."""
        version, self.share = self._idle.version, 0.0
        assert version is not None
        self.slots.unload(self._idle.app)
        self._idle = Slot(self._idle.app)
        self._reject(version.version, why)

    def _reject(self, number: int, why: str) -> None:
        """Version `number` gets no traffic here, nor from any endpoint that has something else to serve."""
        self._refused[number] = why
        self.tell(Event(self.name, "refused", f"{self.name}@{number}: {why}"))
        if self._main.version is None:
            self.failed = why
        else:
            self._withdraw(number, why)

    def _withdraw(self, number: int, why: str) -> None:
        before = self._main.version.version if self._main.version else None
        registry.withdraw(self.store, self.name, self.follows or LIVE, number, before, why)

    # ---------------------------------------------------------------- switching

    def _switch(self, counts: Counts) -> None:
        """The idle slot's version answers from now on; what answered stays loaded beside it."""
        self._main, self._idle = self._idle, self._main
        self.share, self._baking, self._changed = 0.0, self._idle.version is not None, self.clock()
        self.failed = ""
        self._mark(counts)
        assert self._main.version is not None
        self.tell(Event(self.name, "serving", self._main.version.reference))

    def _mark(self, counts: Counts) -> None:
        for slot in (self._main, self._idle):
            if slot.version is not None:
                self._base[slot.version.reference] = tally.total(counts, slot.version.reference)

    def _tallies(self, counts: Counts) -> tuple[Tally, Tally]:
        """What was counted of the main and of the idle version since the last mark."""
        found = []
        for slot in (self._main, self._idle):
            assert slot.version is not None
            reference = slot.version.reference
            found.append(tally.total(counts, reference).since(self._base.get(reference, Tally())))
        return found[0], found[1]

    def _watch(self, counts: Counts) -> None:
        """For a while after a switch: back, when the new version fails or is far slower than the old one."""
        if self.clock() - self._changed > _BAKE_S or self._idle.version is None:
            self._baking = False
            return
        new, _ = self._tallies(counts)
        old = tally.total(counts, self._idle.version.reference)
        bad = self._main.version
        assert bad is not None
        why = tally.fails_more(new, old)
        if not why and bad.version not in self._pointers.forced:
            why = tally.slower(new, old, _BAKED_SLOWER)
        if why:
            self._switch(counts)
            self._baking = False
            self._reject(bad.version, why)

    def _try(self, candidate: int, asked: float, counts: Counts) -> None:
        """A share for the candidate; more of it, or none, by what comes of it."""
        now = self.clock()
        if not self.share:
            self.share, self._changed = asked, now
            self._mark(counts)
            self.tell(Event(self.name, "trying", f"{self.name}@{candidate} with {asked:.0%} of the requests"))
            return
        old, new = self._tallies(counts)
        why = tally.fails_more(new, old) or tally.slower(new, old) or self._misses(new, old)
        if why:
            self._refuse(why)
        elif new.requests >= _STEP_REQUESTS and now - self._changed >= _STEP_S:
            self.share, self._changed = min(1.0, self.share * _GROWTH), now
            if self.share < 1:
                self._mark(counts)
                self.tell(Event(self.name, "trying", f"{self.name}@{candidate} with {self.share:.0%}"))
            else:
                self._switch(counts)
                registry.succeed(self.store, self.name, candidate)

    def _misses(self, new: Tally, old: Tally) -> str | None:
        """Why the candidate is worse by the labels that came back; looked at when there are new ones."""
        if min(new.labelled, old.labelled) < gate.LABELLED or new.labelled + old.labelled == self._judged:
            return None
        self._judged = new.labelled + old.labelled
        candidate, main = self._idle.version, self._main.version
        assert candidate is not None and main is not None
        records = [self.slots.labelled(one.reference) for one in (candidate, main)]
        return gate.worse_in_use(candidate, records[0][-new.labelled :], main, records[1][-old.labelled :])


def lanes(
    store: Store, references: Sequence[str], slots: Slots, tell: Callable[[Event], None] = lambda event: None
) -> list[Lane]:
    """A lane for each of `references` (name, name@alias or name@version)."""
    made: dict[str, Lane] = {}
    for reference in references:
        name, _, which = reference.partition("@")
        fixed = int(which) if which.isascii() and which.isdecimal() else None
        lane = Lane(name, None if fixed else which or LIVE, fixed, store, slots, tell)
        if name in made and (made[name].follows, made[name].fixed) != (lane.follows, lane.fixed):
            raise ModelError(
                f"{name!r} is named twice; one version is served at a time, and candidates beside it"
            )
        made[name] = lane
    return list(made.values())
