"""What a search knows: its records, replayed. Nothing else is kept, so a search goes on from them alone.

    {"record": "trials", "count": n}                             how many are asked for, when that grew
    {"record": "trial", "trial": i, "settings": {…}, "run": r}   a suggestion, and the run that trains it
                                                                 ("why": why it cannot be trained)
    {"record": "reached", "trial": i, "values": […], "step": s, "finished": b}
    {"record": "forked", "trial": i, "after": v, "source": j, "settings": {…}, "run": r, "step": s}
    {"record": "failed", "trial": i, "why": line}
    {"record": "published", "trial": i, "model": name, "version": n}

`values`: the goal metric of every validation so far, null where it is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.journal import Journal
from penstock.tuning.space import Settings
from penstock.workload import Goal


@dataclass
class Trial:
    """One trial as far as it is recorded. `steps`: trained for it in all, without those of what it was forked
    from; `forks`: number of validations -> the trial it was forked from then."""

    number: int
    settings: Settings
    run: str
    values: list[float] = field(default_factory=list)
    step: int = 0
    steps: int = 0
    finished: bool = False
    why: str = ""
    forks: dict[int, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return bool(self.why)

    @property
    def reached(self) -> int:
        """Validations done."""
        return len(self.values)

    def has(self, validations: int) -> bool:
        """Whether it got that far, or to its own end before."""
        return not self.failed and (self.finished or self.reached >= validations)


@dataclass(frozen=True)
class Published:
    trial: int
    model: str
    version: int


class Ledger:
    """The state of a search; `append` is the only way to change it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.trials: dict[int, Trial] = {}
        self.cohorts: list[int] = []  # how many trials were asked for, each time that grew
        self.published: Published | None = None
        self.records = 0
        for record in journal.read():
            self._apply(record)

    @property
    def count(self) -> int:
        """Trials asked for."""
        return self.cohorts[-1] if self.cohorts else 0

    def append(self, record: Mapping[str, Any]) -> None:
        """On the disk first, then here; StoreError when that is full."""
        self.journal.append(record)
        self._apply(record)

    def _apply(self, record: Mapping[str, Any]) -> None:
        self.records += 1
        number = record.get("trial", -1)
        match record["record"]:
            case "trials":
                self.cohorts.append(record["count"])
            case "trial":
                known = Trial(number, dict(record["settings"]), record["run"], why=record.get("why", ""))
                self.trials[number] = known
            case "reached":
                trial = self.trials[number]
                trial.values = [math.nan if value is None else value for value in record["values"]]
                trial.steps += max(record["step"] - trial.step, 0)
                trial.step, trial.finished = record["step"], record["finished"]
            case "forked":
                trial = self.trials[number]
                trial.settings, trial.run = dict(record["settings"]), record["run"]
                trial.step = record["step"]
                trial.forks[record["after"]] = record["source"]
            case "failed":
                self.trials[number].why = record["why"]
            case "published":
                self.published = Published(number, record["model"], record["version"])

    def steps(self) -> int:
        """Steps trained in the whole search."""
        return sum(trial.steps for trial in self.trials.values())


def best_value(values: Sequence[float], goal: Goal) -> float:
    """The best of them; NaN when there is none."""
    best = math.nan
    for value in values:
        if goal.better(value, best):
            best = value
    return best


def worth(value: float, goal: Goal) -> float:
    """Larger is better; undefined is worst."""
    if math.isnan(value):
        return -math.inf
    return value if goal.mode == "max" else -value


def best_trial(trials: Mapping[int, Trial], goal: Goal) -> Trial | None:
    """The trial with the best validation, of equal ones that which went furthest, then the first; None when
    all failed."""
    running = [trial for trial in trials.values() if not trial.failed and trial.values]
    if not running:
        return None
    return min(
        running, key=lambda one: (-worth(best_value(one.values, goal), goal), -one.reached, one.number)
    )
