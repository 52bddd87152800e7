"""What a search came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TuneResult:
    """What `tune` found. `trials`: one row each, `config` being the settings it was given, `metric` its best
    validation, `state` finished, stopped (before its end) or failed; `metrics`: of the published version, on
    the test split; `steps`: trained in the whole search; `seconds`: of this call."""

    search: str
    workload: str
    dataset: str
    goal: str
    scheduler: str
    searcher: str
    trials: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    steps: int
    model: str
    version: int
    aliases: Sequence[str]
    metrics: Mapping[str, Mapping[str, float | None]]
    seconds: float
    report: str

    def to_json(self) -> dict[str, Any]:
        """As `penstock tune --json` prints it."""
        return asdict(self)
