"""What only some Predictors can do. The platform looks for a capability and never for a workload by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
        """Pieces of text, none of which splits a character, then the whole answer, whose field `text` they
        are when joined; of a bad request a Refusal alone. An answer may say `finish` ("length": it was cut),
        `tokens` (a list) and `seen` (tokens of the prompt)."""
        ...


@dataclass(frozen=True)
class Position:
    """A board game as it stands. `stones`: rows from the top, 1 black, -1 white, 0 empty; `legal`: the words
    that a request's moves may go on with; `score`: black's points ahead as it stands."""

    stones: tuple[tuple[int, ...], ...]
    to_play: str
    legal: tuple[str, ...]
    over: bool
    score: float


@runtime_checkable
class Board(Protocol[QIn]):
    """It plays a board game."""

    def position(self, request: QIn) -> Position | Refusal:
        """What stands after the moves of a request, at once: nothing is thought about."""
        ...


NAMES: dict[str, type] = {"board": Board, "chat": Chat, "frames": Frames}
"""By the words that an endpoint lists them with."""
