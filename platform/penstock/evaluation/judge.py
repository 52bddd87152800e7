"""The verbs `evaluate` and `compare`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from penstock import registry
from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare, prepared
from penstock.errors import DataError, ModelError, RunFailed, nearest
from penstock.evaluation.agreement import agree, metric_faults
from penstock.evaluation.bootstrap import Interval, intervals, paired
from penstock.evaluation.scoring import BATCH, Scored, batches, join, records_of, score, summarise
from penstock.evaluation.through import connect, replay
from penstock.store import Store, listed
from penstock.workload import Evaluator, Model, Refusal, Workload, resolve

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.data.shards import Shards
    from penstock.evaluation.through import Endpoint
    from penstock.registry import Version

Verdict = Literal["better", "worse", "higher", "lower", "cannot tell"]


def evaluate(
    reference: str, *, data: str | None = None, through: str | None = None, store: Store | None = None
) -> dict[str, Any]:
    """Metrics with 95 % intervals of a published model on its test split, or on `data`.

    `through`: the URL of a live endpoint; every item is sent there too, and the metrics are those of its
    answers. RunFailed when they are not what the model says offline; PenstockError when no endpoint
    answers. Keys: model, version, workload, goal, data, items, refused, metrics, and through.
    """
    store = store or Store.open()
    version = registry.find(store, reference)
    workload = registry.workload_of(version)
    model = registry.load(store, version)
    evaluator: Evaluator[Any, Any] = resolve(workload.evaluator)(model.config, model.schema)
    extra: dict[str, Any] = {}
    if through is None:
        rows = test_rows(store, version, workload, model, data)
        scored = score(workload, model, rows)
    else:
        with connect(through, version.name, version.version, workload.answer) as endpoint:
            rows = test_rows(store, version, workload, model, data)
            offline = score(workload, model, rows)
            scored, extra = served(endpoint, evaluator, rows, offline)
    return {
        "model": version.name,
        "version": version.version,
        "workload": workload.name,
        "goal": dict(version.card["goal"]),
        "data": data or version.card["data"]["source"],
        "items": scored.records.num_rows,
        "refused": sum(isinstance(answer, Refusal) for answer in scored.answers),
        "metrics": intervals(evaluator, scored.records),
        **extra,
    }


def served(
    endpoint: Endpoint, evaluator: Evaluator[Any, Any], rows: Shards, offline: Scored
) -> tuple[Scored, dict[str, Any]]:
    """What the endpoint answered, scored, and how it compares; RunFailed where it differs."""
    before = endpoint.counter()
    answers = replay(endpoint, (evaluator.requests(part) for part in batches(rows, BATCH)))
    rise = endpoint.counter_reaches(before + len(answers)) - before
    if rise < len(answers):
        raise RunFailed(f"{endpoint.url} counted {rise} requests, not the {len(answers)} it was sent")
    compared = [agree(*pair) for pair in zip(offline.answers, answers, strict=True)]
    wrong = [i for i, found in enumerate(compared) if found.faults]
    if wrong:
        where, ours, theirs = compared[wrong[0]].faults[0]
        raise RunFailed(
            f"{len(wrong)} of {len(answers)} answers of {endpoint.url} are not what the model says offline; "
            f"first: item {offline.records['item'][wrong[0]]}{', ' + where if where else ''}: "
            f"{ours!r:.80} offline, {theirs!r:.80} served"
        )
    tables, start = [], 0
    for part in batches(rows, BATCH):
        tables.append(records_of(evaluator, part, answers[start : start + len(part)]))
        start += len(part)
    records = join(tables, evaluator)
    metrics = summarise(evaluator, records)
    ties = sum(found.ties for found in compared)
    redrawn = sum(found.redrawn for found in compared)
    if not ties and (off := metric_faults(evaluator, offline.records, offline.metrics, metrics, redrawn > 0)):
        name = off[0]
        raise RunFailed(
            f"{name} is {offline.metrics[name]!r} offline and {metrics[name]!r} through {endpoint.url}"
        )
    report = {
        "url": endpoint.url,
        "requests": len(answers),
        "counter_rise": rise,
        "ties": ties,
        "redrawn": redrawn,
        "largest_difference": max((found.largest for found in compared), default=0.0),
    }
    return Scored(records, answers, metrics), {"through": report}


def test_rows(
    store: Store, version: Version, workload: Workload[Any], model: Model[Any], data: str | None
) -> Shards:
    """The raw rows to judge a version by: its own test split, or of `data` what the source marks as test,
    else every item. DataError when there are none."""
    known = version.card["data"]
    if data is not None:
        own = prepared(workload, data, model.config.data, store, seed=known["seed"])
        # the data it was trained on: only the test split is fair, whether or not the source marks one
        dataset = own if own is not None and own.id == known["id"] else None
        if dataset is None:
            dataset = prepare(workload, data, model.config.data, store, use="evaluate", schema=model.schema)
    elif known["id"] in listed(store.datasets):
        dataset = Dataset.load(store.datasets / known["id"])
    else:
        raise DataError(
            f"the data that {version.reference} was trained on ({known['source']}) is not in this store; "
            "name it with --data SOURCE"
        )
    if not len(dataset.test):
        raise DataError(f"{data or known['source']} has no test items; name other data with --data SOURCE")
    return dataset.test


def compare(
    a: str, b: str, *, data: str | None = None, metric: str | None = None, store: Store | None = None
) -> dict[str, Any]:
    """Whether model `a` is better than `b` by their goal metric: "better", "worse" or "cannot tell".

    `metric`: another one; nobody declared which way it is better, so the verdict is "higher", "lower" or
    "cannot tell", and `mode` is None. Paired: both answer the same items, and each bootstrap sample draws
    the same units for both. Without `data` both must have the same test items; ModelError when they cannot
    be compared, or have no such metric. Keys: a, b, metric, mode, verdict, difference (a - b with its 95 %
    interval), values, items.
    """
    store = store or Store.open()
    one, other = registry.find(store, a), registry.find(store, b)
    check_comparable(one, other, data)
    if data is None:
        left, right = registry.records(one), registry.records(other)
    else:
        left, right = records_on(store, one, data), records_on(store, other, data)
    left, right = common(left, right)
    if not left.num_rows:
        raise ModelError(f"{one.reference} and {other.reference} share no test item; try other --data")
    goal = one.card["goal"]
    name = metric or goal["metric"]
    mode = goal["mode"] if name == goal["metric"] else None
    metric_one, metric_other = metric_of(one, name, left), metric_of(other, name, right)
    difference = paired(metric_one, left, metric_other, right)
    return {
        "a": one.reference,
        "b": other.reference,
        "metric": name,
        "mode": mode,
        "verdict": verdict(difference, mode),
        "difference": difference,
        "values": {"a": finite(metric_one(left)), "b": finite(metric_other(right))},
        "items": left.num_rows,
    }


def verdict(difference: Interval, mode: str | None) -> Verdict:
    """What the interval of a - b says of a. `mode`: "max", "min", or None = neither is better."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return "cannot tell"
    if mode is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == (mode == "max") else "worse"


def check_comparable(one: Version, other: Version, data: str | None) -> None:
    pair = f"{one.reference} and {other.reference}"
    if one.card["workload"] != other.card["workload"]:
        raise ModelError(f"{pair} do different things: {one.card['workload']} and {other.card['workload']}")
    if one.card["schema"]["labels"] != other.card["schema"]["labels"]:
        raise ModelError(f"{pair} have different labels; they cannot be compared")
    mine, theirs = one.card["data"], other.card["data"]
    if data is None and (not mine["test_sha256"] or mine["test_sha256"] != theirs["test_sha256"]):
        raise ModelError(
            f"{pair} were tested on different items ({mine['source']} and {theirs['source']}); "
            "name data for both with --data SOURCE"
        )


def records_on(store: Store, version: Version, data: str) -> pa.Table:
    workload = registry.workload_of(version)
    model = registry.load(store, version)
    return score(workload, model, test_rows(store, version, workload, model, data)).records


def common(left: pa.Table, right: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of the items that both tables hold, in the same order."""
    import numpy as np

    items = [table.column("item").to_numpy(zero_copy_only=False).astype(str) for table in (left, right)]
    _, ours, theirs = np.intersect1d(items[0], items[1], assume_unique=True, return_indices=True)
    return left.take(ours).combine_chunks(), right.take(theirs).combine_chunks()


def metric_of(version: Version, metric: str, records: pa.Table) -> Callable[[pa.Table], float]:
    """A metric as a function of records; ModelError where `records` have none of that name."""
    evaluator: Evaluator[Any, Any] = registry.evaluator_of(version)
    if metric not in (known := evaluator.summarise(records)):
        raise ModelError(f"{version.reference} has no metric {metric!r}{nearest(metric, known)}")
    return lambda records: float(evaluator.summarise(records).get(metric, math.nan))


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
