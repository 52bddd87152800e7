"""How a model is best served: a queue with batches, by theory and by hand, and the choice that follows."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.benchmarks.queueing import answered, capacity
from penstock.benchmarks.tuning import Way, best


def test_a_queue_by_hand() -> None:
    arrivals = np.array([0.0, 1.0, 2.0, 10.0])
    alone = answered(arrivals, 1, 0.0, lambda size: 4.0)
    assert alone.tolist() == [4.0, 7.0, 10.0, 6.0]
    together = answered(arrivals, 4, 0.0, lambda size: 4.0)
    assert together.tolist() == [4.0, 7.0, 6.0, 4.0]  # the second and third wait for the first
    patient = answered(arrivals, 4, 2.0, lambda size: 4.0)
    assert patient.tolist() == [6.0, 5.0, 4.0, 6.0]  # the first waited for two others


def test_one_at_a_time_it_is_the_queue_of_the_textbook() -> None:
    """M/D/1: the mean wait is rho / (2 (1 - rho)) services (Pollaczek-Khinchine)."""
    gaps = np.random.default_rng(0).exponential(size=200_000)
    for rho in (0.3, 0.6, 0.8):
        times = answered(np.cumsum(gaps / rho), 1, 0.0, lambda size: 1.0)
        assert np.mean(times) - 1 == pytest.approx(rho / (2 * (1 - rho)), rel=0.05)


def test_what_costs_the_same_for_many_is_batched_and_what_does_not_is_not() -> None:
    fixed = [Way(size, 1, 0.01) for size in (1, 2, 4, 8, 16, 32)]
    found = best(fixed, 0.1, 1)
    assert found is not None and found.batch >= 16 and found.rate > 5 * capacity(1, 0.0, lambda _: 0.01, 0.08)
    linear = [Way(size, 1, 0.002 * size) for size in (1, 2, 4, 8)]
    found = best(linear, 0.05, 1)
    assert found is not None and found.batch == 1 and found.wait_s == 0


def test_threads_are_weighed_against_replicas() -> None:
    ways = [Way(1, 1, 0.010), Way(1, 2, 0.009)]  # two threads hardly help
    found = best(ways, 0.1, 2)
    assert found is not None and (found.threads, found.replicas) == (1, 2)


def test_what_is_too_slow_for_the_p95_is_not_served_so() -> None:
    assert best([Way(1, 1, 0.2)], 0.1, 2) is None
