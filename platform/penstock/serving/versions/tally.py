"""What came of the requests to each version, and whether one version does worse than another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from penstock.serving.versions.gate import SLACK_S

_RECENT = 256
_FAULTS = 3  # fewer are chance
_SURE = 0.01  # probability of so many faults, were both versions alike
_ENOUGH = 20  # answers before their times are compared
_SLOWER = 2.0  # times the median of the version beside it


@dataclass
class Tally:
    """Of one version: requests answered or failed, those that failed through its fault, those of which the
    truth came back, and how long the model computed for the newest (seconds; queueing is not counted)."""

    requests: int = 0
    faults: int = 0
    labelled: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def count(self, fault: bool, seconds: float | None = None) -> None:
        self.requests += 1
        self.faults += fault
        if seconds is not None:
            self.recent.append(seconds)

    def plain(self) -> dict[str, Any]:
        return {**vars(self), "recent": list(self.recent)}

    def since(self, before: Tally) -> Tally:
        """What was counted after `before` was; the newest times are those of now."""
        return Tally(
            self.requests - before.requests,
            self.faults - before.faults,
            self.labelled - before.labelled,
            self.recent,
        )


def total(counts: Iterable[Mapping[str, Any]], title: str) -> Tally:
    """Of version `title` over all gateways, whose counts are {title: Tally.plain()}."""
    whole = Tally()
    for gateway in counts:
        one = gateway.get(title)
        if one:
            whole.requests += one["requests"]
            whole.faults += one["faults"]
            whole.labelled += one["labelled"]
            whole.recent.extend(one["recent"])
    return whole


def fails_more(new: Tally, old: Tally) -> str | None:
    """Why `new` fails more often than `old`, beyond chance (Fisher's exact test, one-sided)."""
    if new.faults < _FAULTS:
        return None
    from scipy.stats import fisher_exact

    table = [
        [new.faults, max(new.requests - new.faults, 0)],
        [old.faults, max(old.requests - old.faults, 0)],
    ]
    if old.requests and fisher_exact(table, alternative="greater").pvalue > _SURE:
        return None
    return (
        f"{new.faults} of its {new.requests} requests failed, {old.faults} of {old.requests} "
        "of the version before"
    )


def slower(new: Tally, old: Tally, times: float = _SLOWER) -> str | None:
    """Why `new` computes longer than `old`: its median is `times` as long, and more than what one feels."""
    if len(new.recent) < _ENOUGH or len(old.recent) < _ENOUGH:
        return None
    theirs, ours = median(new.recent), median(old.recent)
    if theirs <= times * ours + SLACK_S:
        return None
    return f"it computes {1000 * theirs:.0f} ms a request, the version before {1000 * ours:.0f} ms"
