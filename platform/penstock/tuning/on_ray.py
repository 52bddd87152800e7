"""Ray Tune around a search: each of its trials is one stretch of training that the search has asked for.

Tune places and restarts; what to train next is the search's decision, and what came of it is in its ledger.
Tune's own snapshots are written below the search and never read.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._private import auto_init_hook
from ray.tune.search import Searcher

from penstock import capacity
from penstock.disk import explain
from penstock.errors import PenstockError, RunFailed, StoreError
from penstock.experiment.queue import waiting
from penstock.store import Store, address
from penstock.training.events import EventLog
from penstock.training.means import Means
from penstock.training.on_ray import extend_path
from penstock.tuning import trial
from penstock.tuning.room import at_once, bundles
from penstock.tuning.schedule import Job
from penstock.tuning.search import Answer, Search

DEATHS = 3
"""Of a trial's process in one stretch, after which the trial counts as failed."""
LOOK_S = 2.0
"""Between two looks at whether the search and its trials have a place."""
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the driver's folder
}


def drive(search: Search, store: Store, means: Means, alone: bool, learners: int | None) -> None:
    """Train until the search is over. Ray is running already. `alone`: a trial is one process; `learners`:
    remote ones of what learns from games, None where it learns from data.

    RunError when the cluster is too small for one trial; StoreError when the store is full.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    capacity.hold(f"search {search.name}")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is in the ledger
    searcher = Stretches(
        search, store, means, alone, at_once(ray.cluster_resources(), means, alone, learners)
    )
    parts = bundles(means, alone, learners)
    place = Place(searcher, EventLog(store.searches / search.name / "events.jsonl"), parts)
    scratch = store.searches / search.name / ".tune"
    shutil.rmtree(scratch, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(Stretch, tune.PlacementGroupFactory(parts)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            reuse_actors=True,  # a process trains one trial after the other
            trial_name_creator=str,
            trial_dirname_creator=lambda made: str(made.trial_id),
        ),
        run_config=tune.RunConfig(
            name=search.name,
            storage_path=str(scratch),
            verbose=0,
        ),
    )
    errors: list[BaseException] = []

    def fit() -> None:
        try:
            tuner.fit()
        except BaseException as error:  # handed to the main thread
            errors.append(error)

    # fit() takes over SIGINT in a main thread
    thread = threading.Thread(target=fit, name="ray-tune", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
            place.look()
            if searcher.error is not None:
                raise searcher.error
    except BaseException:
        # Tune's thread, left behind, would start another Ray as soon as this one is stopped, and import RLlib
        auto_init_hook.enable_auto_connect = False
        warnings.filterwarnings("ignore", module="gymnasium")
        raise
    finally:
        place.close()
    shutil.rmtree(scratch, ignore_errors=True)
    if searcher.error is not None:
        raise searcher.error
    if errors:
        if why := explain(errors[0], scratch):
            raise StoreError(why)
        first = (str(errors[0]).strip().splitlines() or [""])[-1][:300]
        raise RunFailed(f"search {search.name!r}: {type(errors[0]).__name__}: {first}")


class Stretches(Searcher):  # type: ignore[misc]
    """Asks the search what to train, as Tune's search algorithm."""

    def __init__(self, search: Search, store: Store, means: Means, alone: bool, most: int) -> None:
        super().__init__()
        self.search, self.store, self.means, self.alone, self.most = search, store, means, alone, most
        self.jobs: dict[str, Job] = {}
        self.deaths: Counter[Job] = Counter()
        self.again: list[Job] = []  # their processes died
        self.error: BaseException | None = None

    def suggest(self, trial_id: str) -> Any:
        if self.error is not None:
            return Searcher.FINISHED
        if len(self.jobs) >= self.most:
            return None
        job = self.again.pop(0) if self.again else self._guarded(self.search.next_job)
        if job is None:
            return None if self.jobs and self.error is None else Searcher.FINISHED
        self.jobs[trial_id] = job
        until = None if job.until >= self.search.length else job.until
        run = address(self.store.runs / self.search.run_of(job))
        means = asdict(self.means) | {"placed": self.alone}
        return {"job": json.dumps({"run": run, "until": until, "means": means, "path": sys.path})}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        job = self.jobs.pop(trial_id)
        if error or not result or "answer" not in result:
            self.deaths[job] += 1
            if self.deaths[job] < DEATHS:
                self.again.append(job)  # it goes on from its newest checkpoint
                return
            answer = Answer(why=f"its process died {DEATHS} times")
        else:
            told = json.loads(result["answer"])
            if "full" in told:
                self.error = self.error or StoreError(told["full"])
                return
            answer = Answer(**told)
        self._guarded(lambda: self.search.done(job, answer))

    def _guarded(self, act: Callable[[], Any]) -> Any:
        # Tune would print what is raised in here, and go on
        try:
            return act()
        except (PenstockError, RunFailed) as error:
            self.error = self.error or error
            return None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given, for a restore that nobody asks for

    def __deepcopy__(self, memo: object) -> Stretches:
        return self

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search goes on from its ledger")


class Place:
    """Whether a search has a place for anything; where it has none, it says why, as a run does: to whoever
    started it, and in its log, where `penstock runs` finds it. A trial with workers of its own waits for
    them in its own log: whoever started the search is told of that, too."""

    def __init__(self, searcher: Stretches, log: EventLog, parts: Sequence[Mapping[str, float]]) -> None:
        self.searcher, self.log, self.parts = searcher, log, parts
        self.patience = capacity.Patience()
        self.why = ""  # nothing of the search has a place
        self.looked = time.monotonic()
        log.append({"event": "starting"})  # what an earlier driver waited for is past

    def look(self) -> None:
        if time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        news = self.patience.news(self.parts if self._waits() else ())
        if news is not None:
            self.why = news
            self.log.append({"event": "waiting", "for": news} if news else {"event": "placed"})
        self.searcher.search.wait(self._reasons())

    def _reasons(self) -> dict[int, str]:
        """Each trial under way that finds no place, and why."""
        asked, search = self.searcher, self.searcher.search
        jobs = list(asked.jobs.values())
        if self.why:
            return {job.trial: self.why for job in jobs}
        if asked.alone:
            return {}
        found = ((job.trial, waiting(asked.store.runs / search.run_of(job))) for job in jobs)
        return {trial: why for trial, why in found if why}

    def _waits(self) -> bool:
        """Whether Tune has asked for places, and got none: a process that has one is not up yet, may be."""
        context = ray.get_runtime_context()
        made = capacity.groups_of(context.get_actor_id() or "")
        mine = [group for group in made if group.job == context.get_job_id()]
        return bool(self.searcher.jobs and mine) and not any(group.bundles for group in mine)

    def close(self) -> None:
        self.log.close()


class Stretch(tune.Trainable):  # type: ignore[misc]
    """One stretch of training; a process does one after the other."""

    def setup(self, config: dict[str, Any]) -> None:
        self.job = json.loads(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        extend_path(self.job["path"])
        try:
            answer = trial.train(self.job["run"], Means(**self.job["means"]), self.job["until"])
        except StoreError as error:
            return {"done": True, "answer": json.dumps({"full": str(error)})}
        return {"done": True, "answer": json.dumps(asdict(answer))}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None  # the run's own folder has it

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None
