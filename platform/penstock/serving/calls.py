"""How the routes reach a model: the seam between HTTP and whatever runs the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict


class Reply(TypedDict, total=False):
    """What a model says; exactly one of `answer`, `refusal` and `fault` is there."""

    answer: bytes  # JSON
    refusal: list[tuple[str, str]]  # (JSON pointer, what is wrong); never empty
    fault: str  # what went wrong on our side: for the log, never for the client


class Unavailable(Exception):
    """The model cannot take the request now: its queue is full, or it is being started again."""


class Models(Protocol):
    """The running models, by served name."""

    async def call(self, name: str, values: Mapping[str, Any]) -> Reply:
        """The reply to a request's values. Unavailable when it was not, or not surely, answered.
        Cancelling it gives the request up."""
        ...

    async def ready(self, name: str) -> bool:
        """Whether the model runs and has answered its own example."""
        ...
