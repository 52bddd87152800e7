"""A search under way: hands out what is to be trained, takes the results, keeps the ledger."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.errors import ConfigError
from penstock.training.events import OnEvent
from penstock.tuning.ledger import Ledger, Trial, best_trial, best_value
from penstock.tuning.schedule import Fork, Job, Schedule
from penstock.tuning.space import Settings
from penstock.workload import Goal

Suggest = Callable[[int, Mapping[int, Trial]], Settings]
"""(number of the trial, what is known) -> its settings."""


class Runs(Protocol):
    """Makes the runs that train trials. What was made before is found again: a search may have been killed
    between a run and its record."""

    def create(self, name: str, settings: Settings) -> None:
        """ConfigError when the settings do not go together."""
        ...

    def fork(self, source: str, name: str, settings: Settings) -> int:
        """The steps that the new run has behind it."""
        ...


@dataclass(frozen=True)
class Answer:
    """What training came to. `values`: the goal metric of every validation so far; `why`: one line when it
    failed."""

    values: list[float] = field(default_factory=list)
    step: int = 0
    finished: bool = False
    why: str = ""


class Search:
    """Called from the thread that drives Ray Tune and from the one that shows the table."""

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        schedule: Schedule,
        suggest: Suggest,
        runs: Runs,
        goal: Goal,
        length: int,
        tell: OnEvent = lambda event: None,
    ) -> None:
        self.name, self.ledger, self.schedule, self.suggest = name, ledger, schedule, suggest
        self.runs, self.goal, self.length, self.tell = runs, goal, length, tell
        self.busy: dict[int, Job] = {}
        self.waits_for: Mapping[int, str] = {}  # trials that find no place, and why
        self._lock = threading.RLock()

    def over(self) -> bool:
        """Whether nothing is left to train."""
        with self._lock:
            nothing = not self.busy and not self.schedule.forks(self.ledger.trials, self.ledger.cohorts)
            return nothing and self._due() is None

    def next_job(self) -> Job | None:
        """What to train next; it counts as busy from now on. None while others have to come back first, or
        when the search is over. StoreError when the disk is full."""
        with self._lock:
            for fork in self.schedule.forks(self.ledger.trials, self.ledger.cohorts):
                self._fork(fork)
            while (job := self._due()) is not None:
                if job.trial in self.ledger.trials or self._begin(job.trial):
                    self.busy[job.trial] = job
                    self._say(self.ledger.trials[job.trial])
                    return job
            return None

    def _due(self) -> Job | None:
        trials, cohorts = self.ledger.trials, self.ledger.cohorts
        job = self.schedule.next(trials, cohorts, self.busy)
        if job is None and not self.busy:
            # the best one is published, so it is trained to its end
            best = best_trial(trials, self.goal)
            if best is not None and not best.finished:
                job = Job(best.number, self.length)
        return job

    def _begin(self, number: int) -> bool:
        settings = self.suggest(number, self.ledger.trials)
        run, why = f"{self.name}-{number}", ""
        try:
            self.runs.create(run, settings)
        except ConfigError as error:
            why = str(error)
        facts = {"record": "trial", "trial": number, "settings": settings, "run": run}
        self.ledger.append(facts | ({"why": why} if why else {}))
        if why:
            self._say(self.ledger.trials[number])
        return not why

    def _fork(self, fork: Fork) -> None:
        run = f"{self.name}-{fork.trial}-v{fork.after}"
        step = self.runs.fork(self.ledger.trials[fork.source].run, run, fork.settings)
        self.ledger.append(
            {
                "record": "forked",
                "trial": fork.trial,
                "after": fork.after,
                "source": fork.source,
                "settings": fork.settings,
                "run": run,
                "step": step,
            }
        )

    def done(self, job: Job, answer: Answer) -> None:
        """Record what became of a job. StoreError when the disk is full."""
        with self._lock:
            self.busy.pop(job.trial, None)
            if answer.why:
                self.ledger.append({"record": "failed", "trial": job.trial, "why": answer.why})
            else:
                assert answer.finished or len(answer.values) >= job.until, "training came back too early"
                values = [value if math.isfinite(value) else None for value in answer.values]
                facts = {"values": values, "step": answer.step, "finished": answer.finished}
                self.ledger.append({"record": "reached", "trial": job.trial, **facts})
            self._say(self.ledger.trials[job.trial])

    def wait(self, why: Mapping[int, str]) -> None:
        """Which of the trials under way find no place, and why. A reason is told once, when it is new."""
        with self._lock:
            before, self.waits_for = self.waits_for, dict(why)
            for reason in sorted(set(why.values()) - set(before.values())):
                self.tell({"event": "waiting", "for": reason})
            for number in self.busy:
                if before.get(number) != why.get(number):
                    self._say(self.ledger.trials[number])

    def run_of(self, job: Job) -> str:
        """The run that trains a job's trial."""
        return self.ledger.trials[job.trial].run

    # ---------------------------------------------------------------- what others see

    def say_all(self) -> None:
        """Tells of every trial, as it stands."""
        with self._lock:
            for trial in self.ledger.trials.values():
                self._say(trial)

    def _say(self, trial: Trial) -> None:
        self.tell(
            {
                "event": "trial",
                "search": self.name,
                "goal": self.goal.metric,
                "mode": self.goal.mode,
                **self.row(trial),
            }
        )

    def row(self, trial: Trial) -> dict[str, Any]:
        """A trial as `--json` shows it."""
        busy = trial.number in self.busy
        waits_for = self.waits_for.get(trial.number, "") if busy else ""
        why = waits_for or (trial.why if trial.failed else "")
        if trial.failed:
            state = "failed"
        elif trial.finished:
            state = "finished"
        else:
            going = "waiting" if waits_for else "running"
            state = going if busy else "paused" if trial.values else "waiting"
        return {
            "trial": trial.number,
            "run": trial.run,
            "config": trial.settings,
            "metric": best_value(trial.values, self.goal),
            "state": state,
            "validations": trial.reached,
            "of": self.length,
            "step": trial.step,
            **({"why": why} if why else {}),
        }

    def rows(self) -> list[dict[str, Any]]:
        with self._lock:
            return [self.row(trial) for _, trial in sorted(self.ledger.trials.items())]
