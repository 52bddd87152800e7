"""Whether two answers to one request say the same: what an endpoint sent against what the model says offline.

Words, counts and order must be identical, except where offline scores tie within TOLERANCE; numbers agree
within TOLERANCE absolute or relative, pictures within one of 255 levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from penstock.media import decode_image
from penstock.workload import Evaluator, Refusal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TOLERANCE = 1e-5
METRIC_TOLERANCE = 1e-6
DRAWN_TOLERANCE = 1e-3  # relative, of metrics over answered pictures that differ within LEVELS
LEVELS = 1  # of 255, between two pictures
SCORES = ("score", "probability", "confidence")


@dataclass
class Agreement:
    """What came of comparing: `faults` as (JSON pointer, offline, served); `ties`: differences of words or
    order that a tie explains; `largest`: the largest difference between two numbers, absolute or
    relative, whichever is smaller; `redrawn`: pictures that differ within LEVELS; `tolerance`: of numbers."""

    faults: list[tuple[str, Any, Any]] = field(default_factory=list)
    ties: int = 0
    largest: float = 0.0
    redrawn: int = 0
    tolerance: float = TOLERANCE


def agree(
    offline: BaseModel | Refusal, served: BaseModel | Refusal, tolerance: float = TOLERANCE
) -> Agreement:
    """How two answers to one request compare; two refusals agree whatever their words."""
    if isinstance(offline, Refusal) or isinstance(served, Refusal):
        same = isinstance(offline, Refusal) and isinstance(served, Refusal)
        return Agreement([] if same else [("", outline(offline), outline(served))])
    ours, theirs = offline.model_dump(mode="python"), served.model_dump(mode="python")
    found = Agreement(tolerance=tolerance)
    walk(ours, theirs, "", found)
    scores = list(score_tables(ours))
    tied = [fault for fault in found.faults if is_tie(fault[1], fault[2], scores, tolerance)]
    if tied:
        # what follows from the label (a text, an action) may differ with it; its numbers may not
        found.ties += len(tied)
        found.faults = [fault for fault in found.faults if is_number(fault[1]) and is_number(fault[2])]
        found.faults = [fault for fault in found.faults if not is_tie(fault[1], fault[2], scores, tolerance)]
    return found


def walk(ours: Any, theirs: Any, path: str, found: Agreement) -> None:
    """Compare two plain values, adding to `found`."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and ours.keys() == theirs.keys():
        for key in ours:
            walk(ours[key], theirs[key], f"{path}/{key}", found)
    elif is_list(ours) and is_list(theirs) and len(ours) == len(theirs):
        walk_list(ours, theirs, path, found)
    elif is_number(ours) and is_number(theirs) and (isinstance(ours, float) or isinstance(theirs, float)):
        apart = distance(float(ours), float(theirs))
        found.largest = max(found.largest, apart)
        if apart > found.tolerance:
            found.faults.append((path, ours, theirs))
    elif isinstance(ours, bytes) and isinstance(theirs, bytes):
        if ours == theirs:
            return
        if same_picture(ours, theirs):
            found.redrawn += 1
        else:
            found.faults.append((path, f"{len(ours)} bytes", f"{len(theirs)} other bytes"))
    elif type(ours) is not type(theirs) or ours != theirs:
        found.faults.append((path, ours, theirs))


def walk_list(ours: Sequence[Any], theirs: Sequence[Any], path: str, found: Agreement) -> None:
    straight = Agreement(tolerance=found.tolerance)
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        walk(mine, other, f"{path}/{i}", straight)
    if straight.faults and (swapped := reordered(ours, theirs, found.tolerance)):
        found.ties += swapped
        return
    found.faults += straight.faults
    found.ties += straight.ties
    found.redrawn += straight.redrawn
    found.largest = max(found.largest, straight.largest)


def reordered(ours: Sequence[Any], theirs: Sequence[Any], tolerance: float) -> int:
    """How many scored entries of a ranking changed place with one of the same score; 0 when anything else
    differs."""
    left, moved = list(range(len(ours))), 0
    for i, other in enumerate(theirs):
        for j in left:
            trial = Agreement(tolerance=tolerance)
            walk(ours[j], other, "", trial)
            if not trial.faults and (i == j or near(score_of(ours[i]), score_of(ours[j]), tolerance)):
                left.remove(j)
                moved += i != j
                break
        else:
            return 0
    return moved


def score_tables(value: Any) -> Iterator[Mapping[Any, float]]:
    """Every table of scores in an answer, by label or by index."""
    entries: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        entries = value
    elif is_list(value):
        entries = dict(enumerate(value))
    if len(entries) > 1 and all(isinstance(entry, float) for entry in entries.values()):
        yield entries
    for entry in entries.values():
        yield from score_tables(entry)


def is_tie(ours: Any, theirs: Any, tables: Sequence[Mapping[Any, float]], tolerance: float) -> bool:
    """Whether two labels have the same score somewhere in the offline answer."""
    if not isinstance(ours, str | int) or not isinstance(theirs, str | int):
        return False
    both = [table for table in tables if ours in table and theirs in table]
    return any(near(table[ours], table[theirs], tolerance) for table in both)


def metric_faults(
    evaluator: Evaluator[Any, Any],
    records: pa.Table,
    offline: Mapping[str, float],
    served: Mapping[str, float],
    redrawn: bool = False,
) -> list[str]:
    """Metrics that differ by more than METRIC_TOLERANCE (DRAWN_TOLERANCE where pictures were `redrawn`)
    though no tie explains it. A tie between items
    (two scores so close that noise decides which is higher) explains what moves as far when noise within
    TOLERANCE is put on the offline scores."""
    differing = [name for name in offline if not within(offline[name], served.get(name, math.nan), redrawn)]
    if not differing:
        return []
    ranges = {name: [offline[name], offline[name]] for name in differing}
    for noisy in with_noise(records, draws=20):
        for name, value in evaluator.summarise(noisy).items():
            if name in ranges:
                ranges[name] = [min(ranges[name][0], value), max(ranges[name][1], value)]
    faults = []
    for name in differing:
        low, high = ranges[name]
        if not low - METRIC_TOLERANCE <= served.get(name, math.nan) <= high + METRIC_TOLERANCE:
            faults.append(name)
    return faults


def with_noise(records: pa.Table, draws: int) -> Iterator[pa.Table]:
    """The records with every number column moved by at most TOLERANCE, absolute or relative."""
    import numpy as np
    import pyarrow as pa

    random = np.random.Generator(np.random.Philox(key=0))

    def moved(values: pa.Array) -> pa.Array:
        given: np.ndarray[Any, Any] = values.to_numpy(zero_copy_only=False)
        noise = random.uniform(-TOLERANCE, TOLERANCE, len(given)) * np.maximum(1.0, np.abs(given))
        return pa.array((given + noise).astype(given.dtype), values.type)

    for _ in range(draws):
        table = records
        for index, column in enumerate(records.schema):
            values = records.column(index).combine_chunks()
            if pa.types.is_floating(column.type):
                table = table.set_column(index, column.name, moved(values))
            elif pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
                lists = pa.ListArray.from_arrays(values.offsets, moved(values.values))
                table = table.set_column(index, column.name, lists)
        yield table


def distance(a: float, b: float) -> float:
    """Absolute or relative difference, whichever is smaller; 0 for two NaN or equal infinities."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(1.0, abs(a), abs(b))


def near(a: float | None, b: float | None, tolerance: float) -> bool:
    return a is not None and b is not None and distance(a, b) <= tolerance


def within(a: float, b: float, redrawn: bool = False) -> bool:
    most = max(METRIC_TOLERANCE, DRAWN_TOLERANCE * max(abs(a), abs(b)) if redrawn else 0.0)
    return abs(a - b) <= most or (math.isnan(a) and math.isnan(b))


def score_of(entry: Any) -> float | None:
    if isinstance(entry, Mapping):
        return next((entry[name] for name in SCORES if isinstance(entry.get(name), float)), None)
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def same_picture(ours: bytes, theirs: bytes) -> bool:
    import numpy as np

    try:
        a, b = (np.asarray(decode_image(raw), np.int16) for raw in (ours, theirs))
    except ValueError:
        return False
    return a.shape == b.shape and int(np.abs(a - b).max(initial=0)) <= LEVELS


def outline(answer: BaseModel | Refusal) -> str:
    return f"refused ({answer.detail})" if isinstance(answer, Refusal) else "an answer"
