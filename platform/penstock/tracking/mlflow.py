"""MLflow: one MLflow run for a run, in an experiment named after the workload.

A database keeps a point once however often it is sent, as long as its time is the same; see points.py.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from penstock.tracking.points import Point, params_of, tags_of
from penstock.training.run import Run

IDENTITY = "penstock.identity"
AT_ONCE = 1000
"""Metrics in one request, the most that MLflow takes."""
LONGEST = 5000
"""Characters of a value; MLflow refuses a little more."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, in place of two minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves
}
"""Of MLflow, where the environment does not say otherwise."""


class MLflow:
    def __init__(self, run: Run, place: str) -> None:
        """`place`: a tracking URI; "": a database file in the run's folder."""
        self.run, self._own = run, run.path / "mlflow"
        self.uri = place or f"sqlite:///{self._own / 'mlflow.db'}"
        self._artifacts = None if place else (self._own / "artifacts").as_uri()
        self._client: Any = None
        self._id = ""

    def begin(self, state: dict[str, Any]) -> dict[str, Any]:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        if self._artifacts:
            self._own.mkdir(exist_ok=True)
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # tells of tables it makes
        self._client = MlflowClient(tracking_uri=self.uri)
        experiment = self._experiment()
        known = self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{self.run.identity}'")
        if known:
            self._id = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            state = {}
            self._create(experiment)
        return state if state.get("mlflow_run") == self._id else {}

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.run.spec.workload
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, self._artifacts))
            except MlflowException:  # another run may have been first
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _create(self, experiment: str) -> None:
        born = int((self.run.path / "run.json").stat().st_mtime * 1000)
        made = self._client.create_run(experiment, born, self._tags(), self.run.name)
        self._id = made.info.run_id

    def _tags(self) -> dict[str, str]:
        return {f"penstock.{key}": value[:LONGEST] for key, value in tags_of(self.run).items()}

    def write(self, points: Sequence[Point]) -> dict[str, Any]:
        from mlflow.entities import Metric, Param

        if not points:
            params = [Param(key, value[:LONGEST]) for key, value in params_of(self.run).items()]
            for start in range(0, len(params), 100):
                self._client.log_batch(self._id, params=params[start : start + 100])
        metrics = [
            Metric(key_of(name), value, int(point.time * 1000), point.step)
            for point in points
            for name, value in point.values.items()
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), AT_ONCE):
            self._client.log_batch(self._id, metrics[start : start + AT_ONCE])
        return {"mlflow_run": self._id}

    def finish(self, status: str, end: Point | None) -> dict[str, Any]:
        state = self.write([end]) if end is not None else {"mlflow_run": self._id}
        for key, value in self._tags().items():
            self._client.set_tag(self._id, key, value)
        self._client.set_terminated(self._id, status, int(end.time * 1000) if end is not None else None)
        return state

    def close(self) -> None:
        self._client = None


def key_of(name: str) -> str:
    """`name` in characters that MLflow takes: `ndcg@10` is its usual `ndcg_at_10`, others become their
    code, so that no two names fall together."""
    name = name.replace("@", "_at_")
    return re.sub(r"[^\w\-. :/]", lambda found: f"_{ord(found[0]):x}_", name, flags=re.ASCII)
