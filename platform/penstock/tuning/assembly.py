"""All parts of one search, put together: from what was asked for to the best version, published."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock import agents
from penstock.config import to_dict
from penstock.errors import RunFailed
from penstock.experiment.result import TrainResult, finish, stand
from penstock.journal import Journal
from penstock.registry import published_by
from penstock.store import Store, write_atomic
from penstock.training.events import OnEvent
from penstock.training.fork import fork
from penstock.training.means import Means
from penstock.training.run import Run, RunSpec
from penstock.tuning import model_based, space
from penstock.tuning.asked import Asked
from penstock.tuning.ledger import Ledger, Trial, best_trial
from penstock.tuning.result import TuneResult
from penstock.tuning.schedule import Asha, Pbt, Schedule, Whole
from penstock.tuning.search import Search, Suggest
from penstock.workload import Workload, resolve

if TYPE_CHECKING:
    from penstock.data.dataset import Dataset

TRIALS = 10
"""Where nobody says how many."""
RATED = 8
"""Ratings of a run that learns from games and does not say how many (penstock.rl)."""


class Assembly:
    """All parts of one search, put together."""

    def __init__(
        self,
        workload: Workload[Any],
        config: Any,
        dataset: Dataset,
        store: Store,
        name: str,
        asked: Asked,
        ranges: Mapping[str, Any],
        tell: OnEvent,
    ) -> None:
        self.workload, self.dataset, self.store, self.name = workload, dataset, store, name
        self.asked, self.ranges, self.tell = asked, ranges, tell
        self.folder = store.searches / name
        self.ledger = Ledger(Journal(self.folder / "ledger.jsonl"))
        self.learners, length = self._shape(config)
        schedule, suggest = self._schedule(length), self._suggest()
        self.search = Search(name, self.ledger, schedule, suggest, self, workload.goal, length, tell)

    def _shape(self, config: Any) -> tuple[int | None, int]:
        """(remote learners of what learns from games, else None; validations of a whole run)"""
        if agents.learns(self.workload, config) == "data":
            return None, -(-config.train.epochs // config.train.validate_every)
        agent = resolve(self.workload.trainers[self.workload.trainer(config)])(config, self.dataset.schema)
        plan: agents.Plan = agent.plan
        return plan.learners, -(-plan.iterations // plan.rate_every) if plan.rate_every else RATED

    def _schedule(self, length: int) -> Schedule:
        match self.asked.scheduler:
            case "asha":
                return Asha(length, self.workload.goal)
            case "pbt":
                return Pbt(length, self.workload.goal, self.ranges, self.asked.spec.seed)
        return Whole(length)

    def _suggest(self) -> Suggest:
        seed, goal = self.asked.spec.seed, self.workload.goal
        match self.asked.searcher:
            case "grid":
                _, at = space.grid(self.ranges, seed)
                return lambda number, known: at(number)
            case "optuna":
                return lambda number, known: model_based.suggest(self.ranges, seed, number, known, goal)
        return lambda number, known: space.sample(self.ranges, seed, number)

    # ------------------------------------------------------------ the runs of trials (search.Runs)

    def create(self, name: str, settings: Mapping[str, Any]) -> None:
        Run.create(self.store, name, self._spec(settings))

    def fork(self, source: str, name: str, settings: Mapping[str, Any]) -> int:
        made = fork(Run.open(self.store, source), self.store, name, self._spec(settings))
        found = made.newest_checkpoint(lambda _: None)
        return found.step if found is not None else 0

    def _spec(self, settings: Mapping[str, Any]) -> RunSpec:
        spec = self.asked.spec
        config = to_dict(space.config_of(self.workload.config, spec.config, settings))
        return dataclasses.replace(spec, config=config, search=self.name)

    # ------------------------------------------------------------ the two halves

    def train(self, trials: int | None, by: Means, cpus: int | None) -> None:
        """Until nothing is left to train."""
        most = space.grid(self.ranges, 0)[0] if self.asked.searcher == "grid" else None
        count = trials or self.ledger.count or most or TRIALS
        if most is not None and count > most:
            self.tell({"event": "note", "text": f"the grid has {most} configs"})
            count = most
        if trials is not None and count < self.ledger.count:
            text = f"search {self.name} has {self.ledger.count} trials already; it goes on with all of them"
            self.tell({"event": "note", "text": text})
        if count > self.ledger.count:
            self.ledger.append({"record": "trials", "count": count})
        self.search.say_all()
        if self.search.over():
            return
        from penstock.cluster import ensure_ray
        from penstock.tuning.on_ray import drive

        ensure_ray(cpus)
        drive(self.search, self.store, by, by.workers == 1 and by.max_workers <= 1, self.learners)

    def publish(self, promote: bool, began: float) -> TuneResult:
        """The best trial's model; once, whatever is killed."""
        best = best_trial(self.ledger.trials, self.workload.goal)
        if best is None:
            why = next((one.why for one in self.ledger.trials.values() if one.failed), "there is none")
            raise RunFailed(f"search {self.name!r}: no trial has a result; the first one: {why}")
        found = self._published(best, promote, began)
        rows = [row | {"state": _final(row["state"])} for row in self.search.rows()]
        result = TuneResult(
            search=self.name,
            workload=self.workload.name,
            dataset=self.dataset.id,
            goal=self.workload.goal.metric,
            scheduler=self.asked.scheduler,
            searcher=self.asked.searcher,
            trials=rows,
            best=next(row for row in rows if row["trial"] == best.number),
            steps=self.ledger.steps(),
            model=found.model,
            version=found.version,
            aliases=found.aliases,
            metrics=found.metrics,
            seconds=time.perf_counter() - began,
            report=str(self.folder / "report.html"),
        )
        write_atomic(self.folder / "result.json", json.dumps(result.to_json(), indent=1).encode())
        from penstock.tuning.report import write

        write(self.store, self.name)
        return result

    def _published(self, best: Trial, promote: bool, began: float) -> TrainResult:
        run = Run.open(self.store, best.run)
        config = space.config_of(self.workload.config, run.spec.config, {})
        if run.result is not None and published_by(self.store, run.spec.model, run.name) is not None:
            found = stand(run, self.workload, self.dataset, self.store, promote, _silent)
        else:
            plays = self.learners is not None
            found = finish(
                run,
                self.workload,
                config,
                self.dataset,
                self.store,
                promote,
                True if plays else None,
                _silent,
                began,
            )
        known = self.ledger.published
        if known is None or (known.trial, known.model, known.version) != (
            best.number,
            found.model,
            found.version,
        ):
            facts = {"trial": best.number, "model": found.model, "version": found.version}
            self.ledger.append({"record": "published", **facts})
        return found


def _silent(event: dict[str, Any]) -> None:
    pass


def _final(state: str) -> str:
    return state if state in ("finished", "failed") else "stopped"
