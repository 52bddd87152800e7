"""Trials never ask for more than there is, so none waits for another."""

from __future__ import annotations

import itertools

import pytest

from penstock.errors import RunError
from penstock.training.means import Means
from penstock.tuning.room import at_once, bundles


@pytest.mark.parametrize("learners", [None, 0, 2])
@pytest.mark.parametrize("gpus", [0.0, 0.5, 1.0])
def test_what_runs_at_once_fits(learners: int | None, gpus: float) -> None:
    for cpus, workers, threads in itertools.product((2, 4, 7, 64), (1, 2, 3), (1, 2)):
        means, alone = Means(workers, 0, threads, gpus), workers == 1
        total = {"CPU": float(cpus), "GPU": 8.0}
        try:
            count = at_once(total, means, alone, learners)
        except RunError:
            assert cpus < threads * (workers + (learners or 0) + (learners is not None and not alone))
            continue
        reserved = bundles(means, alone, learners)
        if learners is None and not alone:  # the group that Ray Train reserves
            reserved = reserved + [{"CPU": threads, "GPU": gpus}] * workers
        for kind, there in total.items():
            assert count * sum(bundle.get(kind, 0.0) for bundle in reserved) <= there


def test_a_group_can_take_every_cpu() -> None:
    # a hundredth of a CPU for the process that waits would leave 1.99 of 2
    assert at_once({"CPU": 2.0}, Means(2, 0, 1, 0.0), False, None) == 1
    assert all("CPU" not in bundle for bundle in bundles(Means(2, 0, 1, 0.0), False, None))
    assert at_once({"CPU": 4.0}, Means(1, 0, 1, 0.0), True, None) == 4
    with pytest.raises(RunError, match="2 workers need 2 CPUs and there are 1"):
        at_once({"CPU": 1.0}, Means(2, 0, 1, 0.0), False, None)
    with pytest.raises(RunError, match="a trial needs 2 GPUs and there are 1; lower --gpus-per-worker"):
        at_once({"CPU": 4.0, "GPU": 1.0}, Means(2, 0, 1, 1.0), False, None)
