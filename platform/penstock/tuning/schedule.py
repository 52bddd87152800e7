"""Which trial trains next, and how far: pure decisions from what is recorded.

All count in validations of the whole run (`length` of them): training pauses only after one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from penstock.data.order import key
from penstock.tuning.ledger import Trial, best_value, worth
from penstock.tuning.space import Settings, Space, explored
from penstock.workload import Goal

ETA = 3
"""ASHA: one in so many goes on."""
MOST_RUNGS = 4
MOST_GENERATIONS = 8
QUARTER = 4
"""PBT: one in so many is replaced by one of the best so many."""


@dataclass(frozen=True)
class Job:
    """Train a trial until that many validations are done. A trial that is not known yet is a new one."""

    trial: int
    until: int


@dataclass(frozen=True)
class Fork:
    """Trial `trial` goes on from where `source` is `after` so many validations, with these settings."""

    trial: int
    source: int
    after: int
    settings: Settings


class Schedule(Protocol):
    def next(self, trials: Mapping[int, Trial], cohorts: Sequence[int], busy: Collection[int]) -> Job | None:
        """What a free worker should do while the trials in `busy` are trained; None: nothing now."""
        ...

    def forks(self, trials: Mapping[int, Trial], cohorts: Sequence[int]) -> list[Fork]:
        """What has to be forked before anything else is trained."""
        ...


class Whole:
    """Every trial to its end, in the order they were suggested."""

    def __init__(self, length: int) -> None:
        self.length = length

    def next(self, trials: Mapping[int, Trial], cohorts: Sequence[int], busy: Collection[int]) -> Job | None:
        return next(
            (
                Job(number, self.length)
                for number in range(cohorts[-1])
                if number not in busy and (number not in trials or open_(trials[number]))
            ),
            None,
        )

    def forks(self, trials: Mapping[int, Trial], cohorts: Sequence[int]) -> list[Fork]:
        return []


class Asha:
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
    Tuning", algorithm 2): a free worker promotes the best trial of a rung that is among its best third and
    was not promoted yet, looking from the highest rung down; else it starts a new trial."""

    def __init__(self, length: int, goal: Goal) -> None:
        self.goal = goal
        self.rungs = rungs(length)

    def next(self, trials: Mapping[int, Trial], cohorts: Sequence[int], busy: Collection[int]) -> Job | None:
        for low, high in reversed(list(zip(self.rungs, self.rungs[1:], strict=False))):
            here = [trial for trial in trials.values() if trial.has(low)]
            here.sort(key=lambda trial: (-self._worth(trial, low), trial.number))
            for trial in here[: len(here) // ETA]:
                if trial.number not in busy and not trial.has(high):
                    return Job(trial.number, high)
        for number in range(cohorts[-1]):
            if number not in busy and (number not in trials or not started(trials[number])):
                return Job(number, self.rungs[0])
        return None

    def _worth(self, trial: Trial, rung: int) -> float:
        return worth(best_value(trial.values[:rung], self.goal), self.goal)

    def forks(self, trials: Mapping[int, Trial], cohorts: Sequence[int]) -> list[Fork]:
        return []


class Pbt:
    """Population based training (Jaderberg et al. 2017) by truncation: after each generation the worst
    quarter goes on from the weights of one of the best quarter, with its settings changed a little.
    Generations wait for each other, so that what comes out does not depend on how fast which worker was.
    Trials that were asked for later are a population of their own."""

    def __init__(self, length: int, goal: Goal, space: Space, seed: int) -> None:
        self.goal, self.space, self.seed = goal, space, seed
        count = min(length, MOST_GENERATIONS)
        self.ends = [-(-length * each // count) for each in range(1, count + 1)]

    def next(self, trials: Mapping[int, Trial], cohorts: Sequence[int], busy: Collection[int]) -> Job | None:
        for first, end in populations(cohorts):
            new = [number for number in range(first, end) if number not in trials]
            for number in new:
                if number not in busy:
                    return Job(number, self.ends[0])
            if new:
                continue
            members = self._members(trials, first, end)
            due = next((end for end in self.ends if not all(one.has(end) for one in members)), None)
            for member in members:
                if due is not None and not member.has(due) and member.number not in busy:
                    return Job(member.number, due)
        return None

    def forks(self, trials: Mapping[int, Trial], cohorts: Sequence[int]) -> list[Fork]:
        found = []
        for first, end in populations(cohorts):
            if any(number not in trials for number in range(first, end)):
                continue
            members = self._members(trials, first, end)
            done = [after for after in self.ends[:-1] if members and all(one.has(after) for one in members)]
            # of earlier generations everything was forked before this one began
            if done and not any(one.reached > done[-1] for one in members):
                # who fails later was there: a decision that is made again must be the same
                ranked = [
                    trials[number] for number in range(first, end) if trials[number].reached >= done[-1]
                ]
                found += self._exploit(ranked, first, done[-1])
        return found

    def _members(self, trials: Mapping[int, Trial], first: int, end: int) -> list[Trial]:
        return [
            trials[number] for number in range(first, end) if number in trials and not trials[number].failed
        ]

    def _exploit(self, ranked: list[Trial], first: int, after: int) -> list[Fork]:
        count = len(ranked) // QUARTER or int(len(ranked) > 1)
        before = max((end for end in self.ends if end < after), default=0)

        def rank(one: Trial) -> tuple[float, int]:
            return -worth(best_value(one.values[before:after], self.goal), self.goal), one.number

        order = sorted(ranked, key=rank)
        best, worst = order[:count], order[len(order) - count :]
        return [
            self._fork(one, best, first, after) for one in worst if after not in one.forks and not one.failed
        ]

    def _fork(self, one: Trial, best: list[Trial], first: int, after: int) -> Fork:
        def draw(*purpose: str) -> float:
            parts: tuple[str | int, ...] = ("pbt", self.seed, first, after, one.number, *purpose)
            return float(np.random.Generator(np.random.Philox(key=key(*parts))).random())

        source = best[int(draw("source") * len(best))]
        settings = {
            name: explored(self.space[name], value, lambda purpose, name=name: draw(name, purpose))  # type: ignore[misc]
            for name, value in source.settings.items()
        }
        return Fork(one.number, source.number, after, settings)


def open_(trial: Trial) -> bool:
    """Whether there is more to train."""
    return not trial.failed and not trial.finished


def started(trial: Trial) -> bool:
    return trial.failed or trial.finished or bool(trial.values)


def rungs(length: int) -> list[int]:
    """Where ASHA compares: the whole length, a third of it, …, at most four; ascending."""
    found = [length]
    while found[0] > 1 and len(found) < MOST_RUNGS:
        found.insert(0, -(-found[0] // ETA))
    return found


def populations(cohorts: Sequence[int]) -> list[tuple[int, int]]:
    """First and one past the last trial of each."""
    return list(zip([0, *cohorts], cohorts, strict=False))
