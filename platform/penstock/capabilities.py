"""What only some Predictors can do. The platform looks for a capability and never for a workload by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from penstock.workload import AOut, QIn, Refusal


@runtime_checkable
class Frames(Protocol[QIn, AOut]):
    """It answers what a camera sends."""

    def frames(self, requests: Iterable[QIn]) -> Iterator[AOut | Refusal]:
        """One answer a frame, in order, each given before the next frame is taken."""
        ...


@runtime_checkable
class Chat(Protocol[QIn, AOut]):
    """It answers in words as they come."""

    def stream(self, request: QIn) -> Iterator[str | AOut | Refusal]:
        """Pieces of text, none of which splits a character, then the whole answer, whose text they are when
        joined; of a bad request a Refusal alone."""
        ...
