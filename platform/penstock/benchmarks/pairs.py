"""Two ways of doing the same, timed in turn, so that a machine's drift hits both."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios A/B pair by pair, with its 95 % interval (bootstrap over the pairs)."""

    name: str
    baseline: str
    value: float
    low: float
    high: float
    pairs: int
    median_a: float
    median_b: float
    unit: str
    load: tuple[float, float]  # the machine's 1-minute load average before and after

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"load": list(self.load)}

    def line(self) -> str:
        return (
            f"{self.name}: {self.value:.3f} (95 % {self.low:.3f} to {self.high:.3f}; {self.pairs} pairs) "
            f"against {self.baseline}; medians {self.median_a:.4g} and {self.median_b:.4g} {self.unit}; "
            f"load {self.load[0]:.1f} to {self.load[1]:.1f}"
        )


def compare(
    name: str,
    baseline: str,
    a: Callable[[], float],
    b: Callable[[], float],
    *,
    pairs: int,
    unit: str,
    on_pair: Callable[[int, float, float], None] | None = None,
) -> Ratio:
    """Runs A B, B A, A B, …; `a` and `b` return one figure each (in `unit`)."""
    before = os.getloadavg()[0]
    figures = np.zeros((pairs, 2))
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            figures[pair, side] = (a, b)[side]()
        if on_pair:
            on_pair(pair, float(figures[pair, 0]), float(figures[pair, 1]))
    return ratio(name, baseline, figures, unit, (before, os.getloadavg()[0]))


def ratio(
    name: str, baseline: str, figures: NDArray[np.float64], unit: str, load: tuple[float, float]
) -> Ratio:
    """Of figures measured in turn, [pairs, 2]: ours and the baseline's."""
    pairs, ratios = len(figures), figures[:, 0] / figures[:, 1]
    picks = np.random.default_rng(0).integers(0, pairs, (2000, pairs))
    low, high = np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975])
    return Ratio(
        name=name,
        baseline=baseline,
        value=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        pairs=pairs,
        median_a=float(np.median(figures[:, 0])),
        median_b=float(np.median(figures[:, 1])),
        unit=unit,
        load=load,
    )
