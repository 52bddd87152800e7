"""Which version answers which request, as plain data: made in one place, followed by every gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from penstock.serving.problems import Problem, excerpt
from penstock.serving.served import Served


@dataclass(frozen=True)
class Way:
    """One loaded version and the Serve application that holds it. `share`: of the requests that name no
    version, above 0 and at most 1; `able`: what it can do beside answering (penstock.capabilities.NAMES)."""

    app: str
    model: Served
    share: float = 1.0
    able: tuple[str, ...] = ()


@dataclass(frozen=True)
class Traffic:
    """Every way of an endpoint. `number` grows with each change. `waiting`: references that have no version
    to answer yet. A name's first way is the one that was there first; a candidate comes second."""

    number: int = 0
    ways: tuple[Way, ...] = ()
    waiting: tuple[str, ...] = ()

    def firsts(self) -> list[Way]:
        """The first way of every served name."""
        return list({way.model.name: way for way in reversed(self.ways)}.values())[::-1]

    def choose(self, reference: str, client: str | None = None) -> Way:
        """The way for `name`, `name@alias` or `name@version`. Without version, shares decide, always
        alike for one `client`: who was sent to a candidate stays there while its share grows. Nobody in
        particular gets the first.

        Problem 404 lists what is served; 503 while the name has nothing to answer with yet.
        """
        name, _, which = reference.partition("@")
        ways = [way for way in self.ways if way.model.name == name]
        for way in ways:
            if which and (which == str(way.model.version) or which in way.model.aliases):
                return way
        if ways and not which:
            *others, first = reversed(ways)
            drawn = 1.0 if client is None else place(name, client)
            for way in others:
                if drawn < way.share:
                    return way
                drawn -= way.share
            return first
        if not ways and name in (one.partition("@")[0] for one in self.waiting):
            raise Problem(503, f"{name} is being loaded; try again", headers={"Retry-After": "1"})
        known = ", ".join(way.model.title for way in self.ways)
        raise Problem(404, f"no model {excerpt(reference)!r} is served here; served: {known or 'none yet'}")

    def plain(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Traffic:
        """What `plain` made."""
        ways = tuple(
            Way(way["app"], served(way["model"]), way["share"], tuple(way["able"])) for way in values["ways"]
        )
        return cls(values["number"], ways, tuple(values["waiting"]))

    def after(self, ways: Sequence[Way], waiting: Sequence[str]) -> Traffic:
        """The next one; itself where nothing changes."""
        changed = replace(self, ways=tuple(ways), waiting=tuple(waiting))
        return self if changed == self else replace(changed, number=self.number + 1)


def served(values: Mapping[str, Any]) -> Served:
    return Served(values["name"], values["version"], tuple(values["aliases"]), values["card"])


def place(name: str, client: str) -> float:
    """Where a client stands among all clients of a name, 0 to 1: even, and the same everywhere."""
    digest = hashlib.sha256(f"{name}\0{client}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
