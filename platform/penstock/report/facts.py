"""What a run's folder says, for its page. Only files are read: the page can be written for a run of any
state, from any process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock import catalog
from penstock.config import dotted, to_dict
from penstock.errors import PenstockError, RunError, nearest
from penstock.store import Store, current, fetched, listed


@dataclass(frozen=True)
class RunFacts:
    """`spec`: run.json's; `result`: what `train` printed, None while unfinished; `losses`: objective ->
    (steps, values); `validations`: metric -> (steps, values)."""

    name: str
    path: Path
    spec: Mapping[str, Any]
    attempts: list[Mapping[str, Any]]
    result: Mapping[str, Any] | None
    losses: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
    validations: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


def read_run(store: Store, name: str) -> RunFacts:
    """The facts of run `name`; RunError in one line when there is none or it cannot be read."""
    known = listed(store.runs)
    if name not in known:
        raise RunError(f"no run {name[:64]!r}{nearest(name, known)}")
    path = store.runs / name
    try:
        spec = json.loads((fetched(path) / "run.json").read_bytes())["spec"]
        attempts = read_json(path / "attempts.json") or []
        result = read_json(path / "result.json")
        losses, validations = read_metrics(path / "metrics.jsonl")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"run {name!r} cannot be read: {error!s:.120}") from None
    return RunFacts(name, path, spec, attempts, result, losses, validations)


def read_json(path: Path) -> Any:
    raw = content(path)
    return json.loads(raw) if raw else None


def content(path: Path) -> bytes:
    try:
        return current(path)
    except FileNotFoundError:
        return b""


Series = dict[str, tuple[NDArray[Any], NDArray[Any]]]


def read_metrics(path: Path) -> tuple[Series, Series]:
    """(loss curves, validation curves) of metrics.jsonl; a line that is still being written is left out."""
    losses: dict[str, list[tuple[int, float]]] = {}
    checks: dict[str, list[tuple[int, float]]] = {}
    for line in content(path).splitlines(keepends=True):
        if not line.endswith(b"\n"):
            continue
        entry = json.loads(line)
        for key, value in entry.items():
            if (key == "loss" or key.startswith("loss/")) and isinstance(value, float):
                losses.setdefault(key, []).append((entry["step"], value))
        for key, value in (entry.get("validation") or {}).items():
            if isinstance(value, int | float):
                checks.setdefault(key, []).append((entry["step"], float(value)))
    if len(losses) == 2 and "loss" in losses:
        del losses[next(key for key in losses if key != "loss")]  # one objective: the same curve twice
    return as_series(losses), as_series(checks)


def as_series(points: Mapping[str, list[tuple[int, float]]]) -> Series:
    return {
        key: (np.array([step for step, _ in pairs]), np.array([value for _, value in pairs]))
        for key, pairs in points.items()
    }


@dataclass(frozen=True)
class Setting:
    name: str
    value: str
    changed: bool  # from the workload's default


def settings(spec: Mapping[str, Any]) -> list[Setting]:
    """Every setting of the run's config, dotted; those that differ from the default are marked."""
    given = flat(spec["config"])
    try:
        kind = catalog.find(spec["workload"]).config
        usual = flat(to_dict(kind()))
        order = [name for name in dotted(kind) if name in given]
    except PenstockError:  # the workload was uninstalled since; its settings still read
        usual, order = given, list(given)
    return [Setting(name, as_text(given[name]), given[name] != usual.get(name)) for name in order]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
