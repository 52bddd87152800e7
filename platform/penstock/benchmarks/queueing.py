"""A queue that is answered in batches, simulated: how many requests a second come back in time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_REQUESTS = 2000
_STEPS = 12


def answered(
    arrivals: NDArray[np.float64], batch: int, wait_s: float, seconds: Callable[[int], float]
) -> NDArray[np.float64]:
    """Seconds from each arrival (sorted) to its answer by one replica, which works as
    penstock.serving.on_ray.batching does: when it is free it takes up to `batch` of those that wait; where
    they are fewer, it waits `wait_s` for others. `seconds(b)`: what a batch of b takes."""
    times = np.empty_like(arrivals)
    free, at = 0.0, 0
    while at < len(arrivals):
        begins = max(free, float(arrivals[at]))
        waiting = int(np.searchsorted(arrivals, begins, "right")) - at
        if waiting < batch and wait_s:
            begins += wait_s
            waiting = int(np.searchsorted(arrivals, begins, "right")) - at
        taken = min(waiting, batch)
        free = begins + seconds(taken)
        times[at : at + taken] = free - arrivals[at : at + taken]
        at += taken
    return times


def capacity(batch: int, wait_s: float, seconds: Callable[[int], float], p95_s: float) -> float:
    """The highest rate (requests a second, at random moments) at which one replica answers 95 of 100 within
    `p95_s`; 0 where it never does."""
    gaps = np.random.Generator(np.random.Philox(key=0)).exponential(size=_REQUESTS)
    low, high = 0.0, batch / seconds(batch)
    for _ in range(_STEPS):
        rate = (low + high) / 2
        times = answered(np.cumsum(gaps / rate), batch, wait_s, seconds)
        low, high = (rate, high) if np.quantile(times, 0.95) <= p95_s else (low, rate)
    return low
