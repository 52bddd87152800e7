"""Error bars: the bootstrap over units (speakers, slides, images), seeded, percentiles.

Items of one unit are alike, so whole units are drawn with replacement; drawing items would promise more
certainty than there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from penstock.evaluation.scoring import summarise
from penstock.workload import Evaluator

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SAMPLES = 1000
MANY_ROWS = 20_000  # above it a summary takes long and intervals are narrow: fewer samples do
FEWER_SAMPLES = 200


class Interval(TypedDict):
    """A metric and the interval around it; None where undefined (one class only, a single unit)."""

    value: float | None
    low: float | None
    high: float | None


def intervals(
    evaluator: Evaluator[Any, Any],
    records: pa.Table,
    n: int = SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Every metric of `records` with its `level` interval from `n` bootstrap samples over the units
    (200 at most above 20,000 records). One unit alone has no interval."""
    values = summarise(evaluator, records)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for rows in resamples(records, n, seed):
        sample = evaluator.summarise(records.take(rows))
        for name in values:
            drawn[name].append(float(sample.get(name, math.nan)))
    return {name: interval(value, drawn[name], level) for name, value in values.items()}


def interval(value: float, drawn: list[float], level: float = 0.95) -> Interval:
    """`value` between the percentiles of `drawn`; undefined draws (NaN) are left out, and when more than
    half of them are undefined so is the interval."""
    import numpy as np

    defined = np.asarray([x for x in drawn if math.isfinite(x)])
    if not math.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if len(defined) * 2 <= len(drawn) or not drawn:
        return {"value": value, "low": None, "high": None}
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def resamples(records: pa.Table, n: int, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    """`n` lists of row numbers: as many units as there are, drawn with replacement, with all their rows.
    Pure in (units, n, seed); nothing for fewer than two units."""
    import numpy as np

    units = records.column("unit").to_numpy(zero_copy_only=False) if records.num_rows else np.empty(0, str)
    _, index = np.unique(units.astype(str), return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index))[:-1]) if len(index) else []
    if len(members) < 2:
        return
    samples = min(n, FEWER_SAMPLES) if records.num_rows > MANY_ROWS else n
    random = np.random.Generator(np.random.Philox(key=seed))
    for _ in range(samples):
        yield np.concatenate([members[unit] for unit in random.integers(0, len(members), len(members))])


def paired(
    metric_a: Callable[[pa.Table], float],
    records_a: pa.Table,
    metric_b: Callable[[pa.Table], float],
    records_b: pa.Table,
    n: int = SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The difference a - b of a metric on the same items, each sample drawing the same units for both.
    The tables hold the same items in the same order."""
    assert records_a.column("item").equals(records_b.column("item"))
    drawn = [
        metric_a(records_a.take(rows)) - metric_b(records_b.take(rows))
        for rows in resamples(records_a, n, seed)
    ]
    return interval(metric_a(records_a) - metric_b(records_b), drawn, level)


def text(metric: Mapping[str, float | None], digits: int = 3) -> str:
    """`0.953 (0.941 to 0.965)`, for people; `undefined` and a missing interval are said."""
    value, low, high = metric.get("value"), metric.get("low"), metric.get("high")
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:.{digits}f} (no interval)"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
