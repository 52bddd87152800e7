"""From trained weights to a published version, and what `train` says about it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from penstock import registry
from penstock.errors import ModelError
from penstock.evaluation import intervals, score
from penstock.registry import Version
from penstock.store import Store
from penstock.training.events import EventLog, OnEvent
from penstock.training.run import Run
from penstock.workload import Model, Workload, resolve

if TYPE_CHECKING:
    from penstock.data.dataset import Dataset


@dataclass(frozen=True)
class TrainResult:
    """What `train` made. `metrics`: on the test split, `{value, low, high}` with 95 % intervals; `attempts`:
    where each start of training began; `seconds`: of the call that finished the run;
    `stragglers`: slow workers, with `rank`, `node`, `step_s` and `factor` of the others' median."""

    run: str
    workload: str
    dataset: str
    model: str
    version: int
    aliases: Sequence[str]
    metrics: Mapping[str, Mapping[str, float | None]]
    attempts: Sequence[Mapping[str, Any]]
    steps: int
    best_step: int
    workers: int
    threads: int
    seconds: float
    first_step_s: float
    items_per_s: float
    loss_curve_sha256: str
    weights_sha256: str
    report: str
    stragglers: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """As `penstock train --json` prints it."""
        return asdict(self)


def finish(
    run: Run,
    workload: Workload[Any],
    config: Any,
    dataset: Dataset,
    store: Store,
    promote: bool,
    live_first: bool | None,
    tell: OnEvent,
    began: float,
) -> TrainResult:
    """Score, publish and report what training made; what an earlier call has done is not done again."""
    from penstock.report import write_report

    outcome = run.outcome()
    assert outcome is not None
    weights, facts = outcome
    version = _published(run, store)
    if version is None:
        first = live_first if live_first is not None else not dataset.synthetic
        version = _publish(run, workload, config, dataset, store, weights, first)
    if promote:
        version = _promote(version, workload, dataset, store, run.spec.device, tell)
    result = TrainResult(
        run=run.name,
        workload=workload.name,
        dataset=dataset.id,
        model=version.name,
        version=version.version,
        aliases=list(version.aliases),
        metrics=version.card["metrics"],
        attempts=run.attempts,
        steps=facts["steps"],
        best_step=facts["best_step"],
        workers=run.attempts[-1]["workers"],
        threads=run.spec.threads,
        seconds=time.perf_counter() - began,
        first_step_s=facts["first_step_s"],
        items_per_s=facts["items_per_s"],
        loss_curve_sha256=facts["loss_curve_sha256"],
        weights_sha256=version.card["weights_sha256"],
        report=str(run.path / "report.html"),
        stragglers=stragglers(run),
    )
    run.write_result(result.to_json())
    write_report(run.name, store=store)
    tell({"event": "published", "model": version.name, "version": version.version})
    return result


def stragglers(run: Run) -> list[dict[str, Any]]:
    """What the run's log says about slow workers, for people to read."""
    told, _ = EventLog(run.path / "events.jsonl").since(0)
    keys = ("rank", "node", "factor", "step_s")
    return [{key: event[key] for key in keys} for event in told if event.get("event") == "straggler"]


def stand(
    run: Run, workload: Workload[Any], dataset: Dataset, store: Store, promote: bool, tell: OnEvent
) -> TrainResult:
    """The result of a finished run, with the aliases as they are now."""
    stored = run.result
    assert stored is not None
    result = TrainResult(**stored)
    tell({"event": "note", "text": f"run {run.name} is finished; --fresh trains it anew"})
    try:
        version = registry.find(store, f"{result.model}@{result.version}")
    except ModelError:
        return result  # the version was deleted since
    if promote:
        version = _promote(version, workload, dataset, store, run.spec.device, tell)
    return dataclasses.replace(result, aliases=list(version.aliases))


def _published(run: Run, store: Store) -> Version | None:
    """The version this run has published already: it was killed before it could write that down."""
    version = registry.published_by(store, run.spec.model, run.name)
    if version is not None and version.card["tags"].get("identity") == run.identity:
        return version
    return None  # none, or of an earlier run of that name


def _publish(
    run: Run,
    workload: Workload[Any],
    config: Any,
    dataset: Dataset,
    store: Store,
    weights: Mapping[str, Any],
    live_first: bool,
) -> Version:
    model = Model(run.spec.model, 0, config, dataset.schema, weights)
    scored = score(workload, model, dataset.test, run.spec.device)
    evaluator = resolve(workload.evaluator)(config, dataset.schema)
    metrics: dict[str, dict[str, float | None]] = {
        name: {"value": found["value"], "low": found["low"], "high": found["high"]}
        for name, found in intervals(evaluator, scored.records).items()
    }
    return registry.publish(
        store,
        run.spec.model,
        workload,
        config,
        dataset.schema,
        weights,
        metrics=metrics,
        records=scored.records,
        dataset_card=dataset.card,
        run=run.name,
        seed=run.spec.seed,
        trainer=workload.trainer(config),
        tags={"identity": run.identity, "start_from": run.spec.start_from},
        live_first=live_first,
    )


def _promote(
    version: Version, workload: Workload[Any], dataset: Dataset, store: Store, device: str, tell: OnEvent
) -> Version:
    """`live` moves to `version` unless what is live now scores better on the same test split."""
    goal = workload.goal
    live = registry.aliases(store, version.name).get(registry.LIVE)
    if live is not None and live != version.version:
        before = _worth(registry.find(store, f"{version.name}@{live}"), workload, dataset, store, device)
        now = _worth(version, workload, dataset, store, device)
        if goal.better(before, now):
            tell(
                {
                    "event": "warning",
                    "message": f"{version.reference} is not promoted: {goal.metric} {now:.4f}, "
                    f"live version {live} has {before:.4f}; "
                    f"penstock promote {version.name} {version.version} live does it all the same",
                }
            )
            return version
    return registry.promote(store, version.name, version.version)


def _worth(version: Version, workload: Workload[Any], dataset: Dataset, store: Store, device: str) -> float:
    """The goal metric of a version on the test split of `dataset`."""
    if version.card["data"]["id"] == dataset.id:
        value = version.card["metrics"].get(workload.goal.metric, {}).get("value")
    else:
        value = score(workload, registry.load(store, version), dataset.test, device).metrics.get(
            workload.goal.metric
        )
    return math.nan if value is None else value
