"""How the routes reach a model: the seam between HTTP and whatever runs the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, TypedDict


class Reply(TypedDict, total=False):
    """What a model says; exactly one of `answer`, `refusal` and `fault` is there."""

    answer: bytes  # JSON
    refusal: list[tuple[str, str]]  # (JSON pointer, what is wrong); never empty
    fault: str  # what went wrong on our side: for the log, never for the client
    seconds: float  # that the model computed for it: its part of the batch
    model: str  # name@version that says it


class Piece(Reply, total=False):
    """A part of a reply that comes bit by bit: `text`, or at the end what a Reply holds."""

    text: str


class Unavailable(Exception):
    """The model cannot take the request now: its queue is full, or it is being started again."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s
        """When to come again; 0 where the endpoint's usual time will do."""


class Lost(Unavailable):
    """The replica that had the request is gone. `working`: it died, perhaps of this request; otherwise only
    the way to it broke."""

    def __init__(self, why: str, working: bool) -> None:
        super().__init__(why)
        self.working = working


class Models(Protocol):
    """The running models, by the application that holds a version (versions.traffic.Way.app)."""

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        """The reply to a request's values. `alone`: not in one call with others. Unavailable when it was
        not, or not surely, answered. Cancelling it gives the request up."""
        ...

    def stream(self, app: str, values: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """The reply in pieces, of a model that can (penstock.capabilities.Chat). Raises as `call` does;
        closing it gives the request up."""
        ...

    async def position(self, app: str, values: Mapping[str, Any]) -> Reply:
        """How a board game stands, of a model that plays one (penstock.capabilities.Board)."""
        ...

    async def judge(self, app: str, answer: bytes, truth: Mapping[str, Any]) -> Reply:
        """The record of an earlier answer (Arrow, as a stream), by what the right one would have been."""
        ...

    async def ready(self, app: str) -> bool:
        """Whether the model runs and has answered its own example."""
        ...
