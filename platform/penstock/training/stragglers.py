"""Workers that are slower than the others, step after step: the group goes at the pace of the slowest."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

FACTOR = 1.5
STEPS, SECONDS = 20, 2.0
"""What a look covers at least: steps of each worker, and seconds of the slowest one's own work."""
LOOKS = 3
"""In a row, before it is said."""


@dataclass(frozen=True)
class Slow:
    """`step_s`: seconds of its own work in a step; `factor`: how many times the others' median that is."""

    rank: int
    factor: float
    step_s: float


class Stragglers:
    """Compares the workers of one group. Each is reported once."""

    def __init__(self) -> None:
        self._from: Mapping[int, tuple[int, float]] = {}
        self._slow: dict[int, int] = {}  # rank -> looks in a row
        self._told: set[int] = set()

    def look(self, now: Mapping[int, tuple[int, float]]) -> list[Slow]:
        """`now`: rank -> (steps, seconds of its own work in them) since the start. Gives who is slow."""
        if self._from.keys() != now.keys():
            self._from = dict(now)
            return []
        spent = {rank: (now[rank][0] - steps, now[rank][1] - s) for rank, (steps, s) in self._from.items()}
        if len(spent) < 2 or min(steps for steps, _ in spent.values()) < STEPS:
            return []
        if max(seconds for _, seconds in spent.values()) < SECONDS:
            return []
        self._from = dict(now)
        step_s = {rank: seconds / steps for rank, (steps, seconds) in spent.items()}
        found = []
        for rank, own in step_s.items():
            others = statistics.median(s for other, s in step_s.items() if other != rank)
            slow = own >= FACTOR * others
            self._slow[rank] = self._slow.get(rank, 0) + 1 if slow else 0
            if self._slow[rank] >= LOOKS and rank not in self._told:
                self._told.add(rank)
                found.append(Slow(rank, own / others if others else float("inf"), own))
        return found
