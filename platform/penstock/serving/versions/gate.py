"""What a version must show before it gets any traffic: not worse, and not far slower, than the one there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from penstock import registry
from penstock.errors import ModelError, PenstockError
from penstock.evaluation import compare, text
from penstock.registry import Version
from penstock.serving.example import answer_example
from penstock.store import Store
from penstock.workload import resolve

SLOWER = 4.0
"""Times as long as the version before may a new one take for the example; beyond that it is refused."""
LABELLED = 30
"""Answers of each version of which the truth must have come back before the metric decides."""
_DRAWS = 400
SLACK_S = 0.02  # and so much more: below it nobody feels the difference


def worse(store: Store, new: Version, old: Version) -> str | None:
    """Why `new` is worse than `old` by their goal metric on the same test items; None when it is not, or
    they were tested on different items and nothing can be said."""
    try:
        result = compare(new.reference, old.reference, store=store)
    except ModelError:
        return None
    if result["verdict"] != "worse":
        return None
    values = result["values"]
    return (
        f"its {result['metric']} is {values['a']:.3g}, that of {old.reference} {values['b']:.3g}; "
        f"difference {text(result['difference'])}"
    )


def worse_in_use(
    new: Version, new_records: Sequence[bytes], old: Version, old_records: Sequence[bytes]
) -> str | None:
    """Why `new` is worse than `old` by their goal metric over the requests of which the truth came back
    (records as Arrow streams); not the same requests, so the two are resampled apart."""
    import pyarrow as pa

    goal = new.card["goal"]
    sides = []
    for version, records in ((new, new_records), (old, old_records)):
        evaluator = registry.evaluator_of(version)
        table = pa.concat_tables([pa.ipc.open_stream(one).read_all() for one in records])
        sides.append((evaluator, table.combine_chunks()))
    draw, drawn = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        theirs, ours = (
            evaluator.summarise(table.take(draw.integers(0, len(table), len(table)))).get(goal["metric"])
            for evaluator, table in sides
        )
        drawn.append(math.nan if theirs is None or ours is None else theirs - ours)
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (math.nan,) * 2
    if not (high < 0 if goal["mode"] == "max" else low > 0):
        return None
    return (
        f"its {goal['metric']} over {len(new_records)} labelled requests differs by {low:.3g} to {high:.3g} "
        f"from that of {old.reference}"
    )


def slower(new: Sequence[float], old: Sequence[float]) -> str | None:
    """Why a version is too slow, by the seconds that it and the one before took for the same request."""
    if not new or not old or median(new) <= SLOWER * median(old) + SLACK_S:
        return None
    return f"it takes {1000 * median(new):.0f} ms where the version before takes {1000 * median(old):.0f} ms"


def admit(store: Store, new: Version, old: Version | None, force: bool = False) -> None:
    """ModelError unless `new` answers its own example and, without `force`, is not worse than `old`."""
    registry.verify(new)
    try:
        predictor = resolve(registry.workload_of(new).predictor)(registry.load(store, new), "cpu")
    except PenstockError:
        raise
    except Exception as error:  # whatever a stranger's predictor does
        raise ModelError(f"{new.reference} cannot be loaded: {error}"[:300]) from error
    answer_example(predictor, registry.workload_of(new).request, new.reference)
    if old is not None and old.version != new.version and not force:
        why = worse(store, new, old)
        if why:
            raise ModelError(f"{new.reference} is not promoted: {why}; --force does it all the same")
