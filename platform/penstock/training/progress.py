"""Where a run stands, how fast it goes, what it made."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """What training made, the same on every worker.

    `weights`: the ones to publish, on the CPU; `best_step`: the steps done when they were validated best (0:
    never); `goal`: the goal metric then. The times are of this attempt.
    """

    steps: int
    best_step: int
    goal: float
    weights: dict[str, Tensor]
    loss_curve_sha256: str
    items_per_s: float
    first_step_s: float


@dataclass
class Progress:
    """Where a run stands; all of a checkpoint that is not a tensor."""

    step: int = 0  # steps done
    best_step: int = 0
    best_goal: float = math.nan
    stale: int = 0  # validations since the best one
    finished: bool = False


class Clock:
    """How fast it goes, for people to read; nothing computed depends on it."""

    def __init__(self) -> None:
        self.begun = self.mark = time.perf_counter()
        self.first_step_s = self.seconds = 0.0
        self.items = 0

    def stepped(self, items: int) -> None:
        now = time.perf_counter()
        if self.first_step_s:
            self.seconds += now - self.mark
            self.items += items
        else:
            self.first_step_s = now - self.begun  # left out of the speed: it warms everything up
        self.mark = now

    def skip(self) -> None:
        """What went by since the last step was no training."""
        self.mark = time.perf_counter()

    @property
    def items_per_s(self) -> float:
        return self.items / self.seconds if self.seconds else 0.0
