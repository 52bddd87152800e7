"""How much of a cluster one trial takes, and how many trials fit beside each other.

All that a trial ever asks for is counted before it begins, so trials cannot wait for each other. `alone`: it
is one process; `learners`: remote ones of what learns from games, None where it learns from data.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.errors import RunError
from penstock.training.means import Means, demand_cpus


def at_once(total: Mapping[str, float], means: Means, alone: bool, learners: int | None) -> int:
    """Trials side by side on a cluster with these resources in `total` (CPU, GPU). RunError when there are
    too few for one."""
    processes = means.workers + (learners or 0)
    if learners is not None and not alone:
        processes += 1  # the one that drives the others
    cpus = int(total.get("CPU", 0))
    demand_cpus(processes, means.threads, cpus)
    fit = cpus // (processes * means.threads)
    if means.gpus:
        each = sum(bundle.get("GPU", 0.0) for bundle in bundles(means, alone, learners))
        each, there = each or means.workers * means.gpus, total.get("GPU", 0.0)
        if each > there:
            raise RunError(f"a trial needs {each:g} GPUs and there are {there:g}; lower --gpus-per-worker")
        fit = min(fit, int(there / each))
    return fit


def bundles(means: Means, alone: bool, learners: int | None) -> list[dict[str, float]]:
    """What Tune reserves for one trial. Ray Train's workers have a reservation of their own; the process that
    waits for them takes a byte of memory, since a share of a CPU could be the one that they need."""
    one: dict[str, float] = {"CPU": means.threads}
    if means.gpus:
        one["GPU"] = means.gpus
    if alone:
        return [one] * (1 + (learners or 0))
    if learners is None:
        return [{"memory": 1.0}]
    driving: dict[str, float] = {"CPU": means.threads}
    return [driving] + [one] * (means.workers + learners)
