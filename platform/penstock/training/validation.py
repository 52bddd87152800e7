"""What the weights at hand are worth on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from penstock.data.dataset import Dataset
from penstock.errors import RunFailed
from penstock.evaluation import answer_rows, join, records_of, summarise
from penstock.training.world import World
from penstock.workload import Model, Workload, resolve

BATCH = 32


def validate(
    workload: Workload[Any], config: Any, dataset: Dataset, weights: Mapping[str, Tensor], world: World
) -> tuple[dict[str, float], bytes | None]:
    """(metrics of `weights` by name, the evaluator's snapshot); every worker has to ask. All get the metrics,
    the leading one the snapshot (PNG), where the evaluator draws one.

    The rows go through the workload's own Predictor and Evaluator. Batch i is the same for any number of
    workers and answered by worker i modulo their number, so the number changes no answer.
    """
    evaluator = resolve(workload.evaluator)(config, dataset.schema)
    model = Model(workload.name, 0, config, dataset.schema, weights)
    predictor = resolve(workload.predictor)(model, str(world.device))
    rows = dataset.validation
    starts = range(0, len(rows), BATCH)
    mine = []
    for start in starts[world.rank :: world.size]:
        part = rows.rows(range(start, min(start + BATCH, len(rows))))
        mine.append((start, records_of(evaluator, part, answer_rows(evaluator, predictor, part))))
    metrics: dict[str, float] | None = None
    if everyone := world.gather(mine):
        tables = [
            table for _, table in sorted((pair for part in everyone for pair in part), key=lambda p: p[0])
        ]
        metrics = summarise(evaluator, join(tables, evaluator)) if tables else {}
    shared: dict[str, float] = world.broadcast(metrics)
    goal = workload.goal.metric
    if shared and goal not in shared:
        raise RunFailed(
            f"the evaluator of {workload.name} gives no {goal!r}; it gives {', '.join(sorted(shared))}"
        )
    draws = world.leads and hasattr(evaluator, "snapshot")
    return shared, evaluator.snapshot(predictor) if draws else None
