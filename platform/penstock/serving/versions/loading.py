"""Where versions are loaded, as a rollout sees it: two slots a name, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.registry import Version
from penstock.serving.served import Served

Counts = Sequence[Mapping[str, Any]]
"""Of each gateway: {name@version: Tally.plain()}."""


@dataclass(frozen=True)
class Examined:
    """`seconds`: that a version computes for its own example, several times; `able`: what it can do beside
    answering (penstock.capabilities.NAMES)."""

    seconds: tuple[float, ...]
    able: tuple[str, ...] = ()


class Slots(Protocol):
    """The applications that versions are loaded into."""

    def load(self, app: str, model: Served) -> None:
        """Begins to load; what the slot held goes."""
        ...

    def fault(self, app: str) -> str | None:
        """Why what is being loaded cannot run; "" once it runs and has answered its example, None
        while it is on its way."""
        ...

    def unload(self, app: str) -> None: ...

    def labelled(self, title: str) -> Sequence[bytes]:
        """The newest records that were made of feedback to a version (Arrow, as streams)."""
        ...

    def examine(self, app: str) -> Examined | None:
        """What the version in a slot can do; None when it could not be asked."""
        ...


@dataclass
class Slot:
    """One of a name's two. `ready`: what it holds may have traffic."""

    app: str
    version: Version | None = None
    ready: bool = False
    able: tuple[str, ...] = ()
    since: float = 0.0


@dataclass
class Event:
    """Something that a person who runs the endpoint wants to know."""

    model: str
    what: str
    detail: str = ""
