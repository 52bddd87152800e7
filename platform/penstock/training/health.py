"""Whether workers still move. A worker keeps its pulse; whoever watches them finds the ones that hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

TIMEOUT_S = 120.0
"""Without a step for so long a worker counts as hung, unless its own steps take nearly as long."""
TIMES = 20
"""Nor before so many times the longest stretch without a sign of life so far; a first step, and what comes
between steps (validation, checkpoints), may take so many times as long as a step may."""


@dataclass(frozen=True)
class Beat:
    """A worker's pulse at one moment. `meetings`: times it came to where workers wait for each other;
    `waits`: it is there now; `still_s`: seconds since it last moved on; `busy_s`: seconds of its steps that
    were its own work; `longest_s`: the longest such stretch inside a step, the first one left out."""

    steps: int = 0
    meetings: int = 0
    waits: bool = False
    stepping: bool = False
    still_s: float = 0.0
    busy_s: float = 0.0
    longest_s: float = 0.0


class Pulse:
    """Of this process. Costs about a microsecond a step; nothing computed depends on it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps = self._meetings = 0
        self._waits = self._stepping = False
        self._since = clock()
        self._busy = self._longest = 0.0

    def begin_step(self) -> None:
        self._moved()
        self._stepping = True

    def end_step(self) -> None:
        self._moved()
        self._stepping = False
        self._steps += 1

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Around what ends only when every worker has come to it."""
        self._moved()
        self._meetings += 1
        self._waits = True
        try:
            yield
        finally:
            self._moved()
            self._waits = False

    def read(self) -> Beat:
        """From any thread."""
        return Beat(
            self._steps,
            self._meetings,
            self._waits,
            self._stepping,
            self._clock() - self._since,
            self._busy,
            self._longest,
        )

    def _moved(self) -> None:
        now = self._clock()
        spent, self._since = now - self._since, now
        if self._stepping and not self._waits and self._steps:
            self._busy += spent
            self._longest = max(self._longest, spent)


PULSE = Pulse()


def read() -> Beat:
    """The pulse of the process that this is called in."""
    return PULSE.read()


def hung(beats: Mapping[int, Beat], timeout_s: float) -> list[int]:
    """The ranks that hold up the others and have not moved for too long; mostly none.

    All of `beats` (rank -> its newest, `still_s` up to now) are needed: who waits for others is not hung.
    When all wait for each other, all are: the group will not go on by itself.
    """
    if not beats:
        return []
    behind = min(beat.meetings for beat in beats.values())
    late = {rank: beat for rank, beat in beats.items() if beat.meetings == behind}
    late = {rank: beat for rank, beat in late.items() if not beat.waits} or late
    limit = max(timeout_s, TIMES * max(beat.longest_s for beat in beats.values()))
    begun = any(beat.steps for beat in beats.values())  # who does not answer may be known from before that
    return [
        rank
        for rank, beat in sorted(late.items())
        if beat.still_s > limit * (1 if begun and (beat.stepping or not beat.steps) else TIMES)
    ]
