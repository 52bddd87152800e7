"""A whole search with a trainer of straw, killed at every record: it goes on, and trains nothing twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import ConfigError, PenstockError
from penstock.journal import Journal
from penstock.tuning.asked import wanted
from penstock.tuning.ledger import Ledger, Trial, best_trial, best_value
from penstock.tuning.model_based import observations, suggest
from penstock.tuning.schedule import Asha, Job, Pbt, Schedule, Whole
from penstock.tuning.search import Answer, Search, Suggest
from penstock.tuning.space import sample
from penstock.workload import Goal, Span
from tests import toy

GOAL = Goal("accuracy", "max")
SPACE = {"optim.lr": Span(1e-4, 1e-1, log=True)}
LENGTH, STEPS = 9, 10  # validations of a run, steps between them
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "asha": lambda: Asha(LENGTH, GOAL),
    "pbt": lambda: Pbt(LENGTH, GOAL, SPACE, 0),
    "none": lambda: Whole(LENGTH),
}


class Killed(Exception):
    pass


@dataclass
class World:
    """The store as a kill leaves it: runs with their validations, and how often each stretch was trained."""

    runs: dict[str, list[float]] = field(default_factory=dict)
    settings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    trained: list[tuple[str, int]] = field(default_factory=list)

    def create(self, name: str, settings: Mapping[str, Any]) -> None:
        if settings["optim.lr"] > 0.05:
            raise ConfigError("optim.lr: too high for straw")
        self.runs.setdefault(name, [])
        assert self.settings.setdefault(name, settings) == settings

    def fork(self, source: str, name: str, settings: Mapping[str, Any]) -> int:
        self.runs.setdefault(name, list(self.runs[source]))
        assert self.settings.setdefault(name, settings) == settings
        return STEPS * len(self.runs[name])

    def train(self, name: str, until: int) -> Answer:
        values = self.runs[name]
        while len(values) < until:
            self.trained.append((name, len(values)))
            values.append(quality(self.settings[name]["optim.lr"]) * (1 - 0.5 ** (len(values) + 1)))
        return Answer(list(values), STEPS * len(values), len(values) == LENGTH)


def quality(rate: float) -> float:
    return 1 - abs(math.log10(rate) + 2) / 4


class Mortal(Journal):
    """Dies before or after its n-th record, with half a line left."""

    def __init__(self, path: Path, dies_at: int, before: bool) -> None:
        super().__init__(path)
        self.left, self.before = dies_at, before

    def append(self, record: Mapping[str, Any]) -> None:
        if self.left == 0 and self.before:
            with self.path.open("ab") as file:
                file.write(b'{"record": "reach')
            raise Killed
        super().append(record)
        if self.left == 0:
            raise Killed
        self.left -= 1


def at_random(number: int, known: Mapping[int, Trial]) -> dict[str, Any]:
    return sample(SPACE, 0, number)


def drive(
    world: World,
    journal: Journal,
    scheduler: str,
    count: int = 8,
    workers: int = 2,
    ask: Suggest = at_random,
) -> Ledger:
    """A driver with `workers`; the oldest job comes back first."""
    ledger = Ledger(journal)
    if count > ledger.count:
        ledger.append({"record": "trials", "count": count})
    search = Search("s", ledger, SCHEDULES[scheduler](), ask, world, GOAL, LENGTH)
    out: list[Job] = []
    while True:
        while len(out) < workers and (job := search.next_job()) is not None:
            out.append(job)
        if not out:
            assert search.over()
            return ledger
        job = out.pop(0)
        search.done(job, world.train(search.run_of(job), job.until))


@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_a_search_killed_at_every_record_trains_nothing_twice(tmp_path: Path, scheduler: str) -> None:
    undisturbed = World()
    whole = drive(undisturbed, Journal(tmp_path / "whole.jsonl"), scheduler)
    assert whole.records > 12
    for before in (True, False):
        for record in range(whole.records):
            world, path = World(), tmp_path / f"{record}-{before}.jsonl"
            with pytest.raises(Killed):
                drive(world, Mortal(path, record, before), scheduler)
            ledger = drive(world, Journal(path), scheduler)
            assert len(world.trained) == len(set(world.trained)), "a stretch was trained twice"
            assert ledger.trials.keys() == whole.trials.keys()
            for number in range(8):
                assert world.settings.get(f"s-{number}", sample(SPACE, 0, number)) == sample(SPACE, 0, number)
            best = best_trial(ledger.trials, GOAL)
            assert best is not None and best.finished
            assert best_value(best.values, GOAL) == max(
                max(values, default=0) for values in world.runs.values()
            )
            if scheduler != "asha":  # there, what is compared with what depends on who is first
                assert ledger.trials == whole.trials


def test_a_search_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    world, path = World(), tmp_path / "ledger.jsonl"
    for _ in range(200):
        try:
            ledger = drive(world, Mortal(path, 1, before=False), "asha")
            break
        except Killed:
            continue
    else:
        pytest.fail("it never ended")
    assert len(world.trained) == len(set(world.trained))
    assert best_trial(ledger.trials, GOAL) is not None


@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_more_trials_go_on_from_those_that_are_there(tmp_path: Path, scheduler: str) -> None:
    world, path = World(), tmp_path / "ledger.jsonl"
    few = drive(world, Journal(path), scheduler, count=4)
    assert set(few.trials) == {0, 1, 2, 3}
    before = list(world.trained)
    assert drive(world, Journal(path), scheduler, count=4).records == few.records
    assert world.trained == before
    more = drive(world, Journal(path), scheduler, count=8)
    assert set(more.trials) == set(range(8))
    assert len(world.trained) == len(set(world.trained))
    assert drive(world, Journal(path), scheduler, count=2).records == more.records


def test_settings_that_do_not_go_together_fail_alone(tmp_path: Path) -> None:
    world = World()
    ledger = drive(world, Journal(tmp_path / "ledger.jsonl"), "none", count=60)
    failed = [trial for trial in ledger.trials.values() if trial.failed]
    assert failed and all(trial.why == "optim.lr: too high for straw" for trial in failed)
    assert all(trial.finished for trial in ledger.trials.values() if not trial.failed)


def test_the_final_job_takes_the_next_best_when_the_best_fails(tmp_path: Path) -> None:
    world, journal = World(), Journal(tmp_path / "ledger.jsonl")
    drive(world, journal, "asha", count=1)
    ledger = Ledger(journal)
    ledger.append({"record": "failed", "trial": 0, "why": "gone"})
    assert best_trial(Ledger(journal).trials, GOAL) is None
    more = drive(world, journal, "asha", count=2)
    best = best_trial(more.trials, GOAL)
    assert best is not None and (best.number, best.finished) == (1, True)


def test_steps_of_a_fork_are_counted_once(tmp_path: Path) -> None:
    world = World()
    ledger = drive(world, Journal(tmp_path / "ledger.jsonl"), "pbt")
    assert any(trial.forks for trial in ledger.trials.values())
    assert ledger.steps() == STEPS * len(world.trained)


def test_optuna_suggests_the_same_from_the_same_ledger_and_learns_from_it(tmp_path: Path) -> None:
    pytest.importorskip("optuna")

    def ask(number: int, known: Mapping[int, Trial]) -> dict[str, Any]:
        return suggest(SPACE, 0, number, known, GOAL)

    def mean(ledger: Ledger) -> float:
        """How good the later suggestions are; the best possible is 1."""
        return sum(quality(ledger.trials[number].settings["optim.lr"]) for number in range(10, 30)) / 20

    asked = drive(World(), Journal(tmp_path / "optuna.jsonl"), "none", count=30, ask=ask)
    drawn = drive(World(), Journal(tmp_path / "random.jsonl"), "none", count=30)
    assert mean(asked) > mean(drawn)
    assert [ask(number, asked.trials) for number in (30, 31)] == [
        ask(number, asked.trials) for number in (30, 31)
    ]
    assert ask(1, {}) == sample(SPACE, 0, 1)


def test_without_optuna_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PenstockError, match=r"pip install 'penstock\[search\]'"):
        wanted(toy.workload, "asha", "optuna", None, None, ())


def test_trials_are_compared_after_as_many_validations(tmp_path: Path) -> None:
    known = {number: Trial(number, {}, "", [0.1 * number, 0.9][: 1 + (number < 2)]) for number in range(5)}
    assert [value for _, value in observations(known, GOAL, 3)] == [0.0, 0.1, 0.2, pytest.approx(0.3), 0.4]
    assert [value for _, value in observations(known, GOAL, 2)] == [0.9, 0.9]
    assert observations(known, GOAL, 6) == []
