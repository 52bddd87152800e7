"""Answers of a predictor and what they are worth: one record per item, metrics over all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.workload import Evaluator, Model, Predictor, Refusal, Row, Workload, resolve

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 32
"""Items answered at a time when nothing else is said."""


class Rows(Protocol):
    """Raw rows to score: a list of them, or anything with a length and slices by index (`Shards`)."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Scored:
    """What a model did on a set of rows. `records`: one row per item, with the columns `item` and
    `unit`; `answers`: in the order of the rows; `metrics`: by standard name, NaN where undefined."""

    records: pa.Table
    answers: Sequence[Any]
    metrics: dict[str, float]


def score(
    workload: Workload[Any],
    model: Model[Any],
    rows: Rows | Sequence[Row],
    device: str = "cpu",
    batch: int = BATCH,
) -> Scored:
    """`model` on `rows`, through the workload's own Predictor and Evaluator, `batch` items at a time."""

    evaluator: Evaluator[Any, Any] = resolve(workload.evaluator)(model.config, model.schema)
    predictor: Predictor[Any, Any] = resolve(workload.predictor)(model, device)
    answers: list[Any] = []
    tables: list[pa.Table] = []
    for part in batches(rows, batch):
        got = answer_rows(evaluator, predictor, part)
        answers += got
        tables.append(records_of(evaluator, part, got))
    records = join(tables, evaluator)
    return Scored(records, answers, summarise(evaluator, records))


def batches(rows: Rows | Sequence[Row], size: int) -> Iterator[list[Row]]:
    """`rows` cut into lists of at most `size`, in order; only one of them is in memory at a time."""
    take = getattr(rows, "rows", None)
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        if take is not None:
            yield list(take(range(start, stop)))
        else:
            yield [rows[i] for i in range(start, stop)]  # type: ignore[index]


def answer_rows(
    evaluator: Evaluator[Any, Any], predictor: Predictor[Any, Any], rows: Sequence[Row]
) -> list[Any | Refusal]:
    """One answer (or Refusal) per raw row, in order: the rows as a client would send them, one batch."""
    requests = evaluator.requests(rows)
    answers = list(predictor.predict(requests))
    assert len(answers) == len(requests) == len(rows), (len(answers), len(requests), len(rows))
    return answers


def records_of(evaluator: Evaluator[Any, Any], rows: Sequence[Row], answers: Sequence[Any]) -> pa.Table:
    """The evaluator's records with the columns `item` and `unit` first; an empty unit is the item itself."""
    import pyarrow as pa

    records = evaluator.records(rows, answers)
    assert records.num_rows == len(rows), (records.num_rows, len(rows))
    records = records.drop_columns([name for name in ("item", "unit") if name in records.column_names])
    items = [str(row["item"]) for row in rows]
    units = [str(row.get("unit") or row["item"]) for row in rows]
    return records.add_column(0, "item", pa.array(items, pa.string())).add_column(
        1, "unit", pa.array(units, pa.string())
    )


def join(tables: Sequence[pa.Table], evaluator: Evaluator[Any, Any]) -> pa.Table:
    """The records of several batches as one table of one chunk, in the order given."""
    import pyarrow as pa

    if not tables:
        return records_of(evaluator, [], [])
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def summarise(evaluator: Evaluator[Any, Any], records: pa.Table) -> dict[str, float]:
    """Metrics as plain Python floats, sorted as the evaluator gives them."""
    return {name: float(value) for name, value in evaluator.summarise(records).items()}
