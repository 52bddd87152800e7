"""Training on up to 1,000 workers, simulated from parts: what of the time is useful, and what breaks first.

    python tests/benchmarks/scale.py [--parts PARTS.json] [--json]

prints the tables of deploy/SCALING.md. `--parts` takes what `scale_parts.py` wrote; without it the figures
below are used. Everything is seeded; nothing is timed.

A step takes as long as the slowest of n workers reads and computes, plus the sum of the gradients over the
network. A checkpoint stops training for the copy to host memory and is committed some time later; a failure
throws back to the newest committed one. Each formula names its source.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.data.order import key, permutation

Floats = NDArray[np.float64]
DAY = 86_400.0
GB = 1e9
HOPELESS = 50
COUNTS = (1, 8, 64, 256, 1000)
FAILURES = 1_000  # behind each figure of the simulation: good to about 3 % of what they cost
INTERVALS = 200_000  # at most; where they hold fewer failures, failures cost next to nothing


# ---------------------------------------------------------------- the slowest of many


def slowest_s(base_s: float, spread: float, workers: int, uniform: Floats) -> Floats:
    """How long the slowest of `workers` computes, one figure for each number of `uniform`, in (0, 1].

    A worker takes base_s (1 + X), X exponential of mean `spread`. The largest of n has the distribution
    function F^n, so one number u is enough: X = -spread ln(1 - u^(1/n)). Its mean is spread H_n.
    """
    # 1 - u^(1/n) would lose its digits where n is large
    return base_s * (1.0 - spread * np.log(-np.expm1(np.log(uniform) / workers)))


def harmonic(n: int, power: int = 1) -> float:
    """1 + 1/2^p + … + 1/n^p: for p = 1 the mean of the largest of n exponentials, for p = 2 its variance."""
    return float(np.sum(1.0 / np.arange(1, n + 1, dtype=np.float64) ** power))


# ---------------------------------------------------------------- the network


@dataclass(frozen=True)
class Network:
    """`alpha_s` for one message; bytes/s of one connection (`stream`) and of a node's port (`link`)."""

    alpha_s: float
    stream: float
    link: float


def ring_s(size: float, n: int, alpha_s: float, beta: float) -> float:
    """Ring all-reduce of `size` bytes: 2 (n - 1) messages of size / n, one after the other. Nobody can send
    fewer bytes (Patarasuk and Yuan, J. Parallel Distrib. Comput. 69, 2009), but its latency grows with n."""
    return 2 * (n - 1) * (alpha_s + size / n / beta)


def halving_s(size: float, n: int, alpha_s: float, beta: float) -> float:
    """Recursive halving and doubling: the same bytes in 2 ceil(log2 n) messages (Thakur, Rabenseifner and
    Gropp, Int. J. High Perform. Comput. Appl. 19, 2005)."""
    return 2 * math.ceil(math.log2(n)) * alpha_s + 2 * size * (n - 1) / n / beta if n > 1 else 0.0


def flat_s(size: float, workers: int, a_node: int, inside: Network, between: Network) -> float:
    """One ring through all workers, as gloo's all_reduce: neighbours mostly share a node and talk by the same
    kind of connection there; each node's port carries one each way."""
    alpha_s = inside.alpha_s if workers <= a_node else between.alpha_s
    return ring_s(size, workers, alpha_s, min(between.stream, between.link))


def hierarchical_s(size: float, workers: int, a_node: int, inside: Network, between: Network) -> float:
    """Summed inside each node first, in shared memory; then each local worker sums its piece with those of
    the other nodes, all connections at once; then gathered inside."""
    local = min(a_node, workers)
    beta = min(between.stream, between.link / local)
    across = halving_s(size / local, math.ceil(workers / local), between.alpha_s, beta)
    return ring_s(size, local, inside.alpha_s, min(inside.stream, inside.link)) + across


# ---------------------------------------------------------------- failures


@dataclass(frozen=True)
class Saving:
    """A checkpoint: training stops for `stall_s`; `commit_s` after that, beside training, it counts."""

    stall_s: float
    commit_s: float = 0.0


def simulate(work_s: Floats, saving: Saving, mtbf_s: float, restart_s: float, seed: int) -> float:
    """Goodput of intervals that take `work_s` [intervals], a checkpoint after each: the work over all time.

    The next failure comes after an exponential time, also during a restart, and throws back to the newest
    checkpoint committed by then. A save first waits for the one before it, as training/checkpoint.py does.
    0 where it would take HOPELESS times as long as without failures.
    """
    draw = np.random.default_rng(seed)
    lasts = np.maximum(work_s, saving.commit_s) + saving.stall_s
    ends = np.cumsum(lasts)
    # straight after a start there is no save to wait for
    ahead = lasts - saving.stall_s - work_s
    now, done = 0.0, 0
    while now < HOPELESS * ends[-1]:
        begun = (ends[done - 1] if done else 0.0) + ahead[done]
        left = ends[-1] - begun
        fails = draw.exponential(mtbf_s)
        if fails >= left:
            return float(work_s.sum() / (now + left))
        now += fails
        done = max(done, int(np.searchsorted(ends, begun + fails - saving.commit_s, "right")))
        while (fails := draw.exponential(mtbf_s)) < restart_s:
            now += fails
        now += restart_s
    return 0.0


def expected_goodput(interval_s: float, cost_s: float, mtbf_s: float, restart_s: float) -> float:
    """The closed form where a checkpoint stops training for `cost_s`: `interval_s` of work take
    M e^(R/M) (e^((T + C)/M) - 1) on average (Daly, Future Gener. Comput. Syst. 22, 2006)."""
    spent = mtbf_s * math.exp(restart_s / mtbf_s) * math.expm1((interval_s + cost_s) / mtbf_s)
    return interval_s / spent


def young_s(cost_s: float, mtbf_s: float) -> float:
    """sqrt(2 C M): the best interval, to first order (Young, Commun. ACM 17, 1974)."""
    return math.sqrt(2 * cost_s * mtbf_s)


def daly_s(cost_s: float, mtbf_s: float) -> float:
    """Daly's higher-order best interval (2006, the same); M where C >= 2 M."""
    x = cost_s / (2 * mtbf_s)
    return young_s(cost_s, mtbf_s) * (1 + math.sqrt(x) / 3 + x / 9) - cost_s if x < 1 else mtbf_s


# ---------------------------------------------------------------- a whole run


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, in which way. Seconds, bytes, bytes/s. The batch grows with the workers."""

    name: str
    hierarchical: bool = False  # the sum of the gradients
    overlaps: bool = False  # summed beside the backward pass, two thirds of a step (ddp)
    sharded: bool = False  # each worker writes, checks and loads its own part of a checkpoint
    ahead: bool = False  # the next batch is read beside the step
    cached: float = 0.0  # share of the reads that the node's own disk answers
    step_s: float = 1.0  # what an undisturbed worker computes a step
    spread: float = 0.02  # mean excess of a worker's step, as a share
    gradients: float = 1 * GB  # 250 million parameters, fp32
    state: float = 4 * GB  # of a checkpoint: weights, their average, two moments
    reads: float = 32e6  # bytes by a worker a step: 32 items of 1 MB
    a_node: int = 8  # workers
    node_mtbf_s: float = 264 * DAY  # 419 stops of 2,048 nodes in 54 days (The Llama 3 Herd of Models, 2024)
    detect_s: float = 3.0
    start_s: float = 10.0
    start_each_s: float = 0.01  # of the controller's own time
    inside: Network = Network(1e-5, 5 * GB, 20 * GB)  # shared memory
    between: Network = Network(5e-5, 2 * GB, 12.5 * GB)  # 100 Gbit/s
    copy: float = 5 * GB  # host memory
    hashes: float = 1.5 * GB  # SHA-256 on one core
    writes: float = 0.5 * GB  # one writer with fsync
    store: float = 20 * GB  # the shared store, all nodes together
    disk: float = 2 * GB  # a node's own

    def nodes(self, workers: int) -> int:
        return math.ceil(workers / self.a_node)

    def mtbf_s(self, workers: int) -> float:
        """Of the group: nodes fail independently."""
        return self.node_mtbf_s / self.nodes(workers)

    def reduce_s(self, workers: int) -> float:
        """What summing adds to a step."""
        way = hierarchical_s if self.hierarchical else flat_s
        took = way(self.gradients, workers, self.a_node, self.inside, self.between)
        return max(0.0, took - self.step_s * 2 / 3) if self.overlaps else took

    def reading_s(self, workers: int) -> float:
        """Until the slower of disk and store has brought every node what it reads in a step."""
        nodes = self.nodes(workers)
        a_node = self.reads * workers / nodes
        away = min(self.between.link, self.store / nodes)
        return max(a_node * self.cached / self.disk, a_node * (1 - self.cached) / away)

    def saving(self, workers: int) -> Saving:
        part = self.state / (workers if self.sharded else 1)
        written = self.state / min(self.writes * (workers if self.sharded else 1), self.store)
        return Saving(part / self.copy, part / self.hashes + written)

    def restart_s(self, workers: int) -> float:
        """Notice, start a group, find the checkpoint and load it: all of it by every worker, after rank 0 has
        checked its hashes; sharded, each its own part."""
        checked = self.state / (workers if self.sharded else 1) / self.hashes
        loaded = self.state * (1 if self.sharded else workers)
        together = min(self.nodes(workers) * self.between.link, self.store)
        return self.detect_s + self.start_s + self.start_each_s * workers + checked + loaded / together

    def step(self, workers: int) -> float:
        """Its mean, seconds."""
        computes = self.step_s * (1 + self.spread * harmonic(workers))
        return float(self._with_reading(np.array(computes), workers)) + self.reduce_s(workers)

    def _with_reading(self, computes: Floats, workers: int) -> Floats:
        reads = self.reading_s(workers)
        return np.maximum(computes, reads) if self.ahead else computes + reads

    def intervals(self, workers: int, steps: int, count: int, seed: int) -> Floats:
        """How long `count` intervals of `steps` steps take. Many steps are drawn as one normal number."""
        draw = np.random.default_rng(seed)
        if steps <= 8:
            drawn = slowest_s(self.step_s, self.spread, workers, 1 - draw.random((count, steps)))
            return self._with_reading(drawn, workers).sum(axis=1) + steps * self.reduce_s(workers)
        deviation = self.step_s * self.spread * math.sqrt(steps * harmonic(workers, 2))
        return draw.normal(steps * self.step(workers), deviation, count)

    def goodput(self, workers: int, interval_s: float, seed: int = 0) -> float:
        """The share of the time that one undisturbed worker would have needed for its steps."""
        steps = max(1, round(interval_s / self.step(workers)))
        lasts = max(steps * self.step(workers), self.saving(workers).commit_s)
        count = min(max(10, int(FAILURES * self.mtbf_s(workers) / lasts)), INTERVALS)
        work = self.intervals(workers, steps, count, seed)
        kept = simulate(work, self.saving(workers), self.mtbf_s(workers), self.restart_s(workers), seed + 1)
        return kept * steps * count * self.step_s / float(work.sum())

    def best(self, workers: int) -> tuple[float, float]:
        """(the interval with the best goodput, that goodput), on a grid from a step to half a day."""
        longest = min(DAY / 2, 2 * self.mtbf_s(workers))
        grid = np.geomspace(4 * self.step(workers), longest, 10)
        tried = [(float(each), self.goodput(workers, float(each))) for each in grid]
        return max(tried, key=lambda pair: pair[1])


# ---------------------------------------------------------------- the order of a petabyte


def lane_window(
    seed: int, epoch: int, blocks: int, rows: int, lanes: int, lane: int, window: int, which: int
) -> NDArray[np.int64]:
    """The items of window `which` of a lane, int64 [<= window * rows]: what a data set larger than a node's
    disk needs, and the platform has not yet.

    Blocks of `rows` items are permuted and dealt to `lanes`; a lane shuffles `window` of its blocks at once.
    A global batch takes the same number of items from each lane, and a worker's slice of it is whole lanes:
    it reads its own blocks only, one after the other. Still a pure function of (seed, epoch, place), whatever
    the number of workers, as long as it is at most `lanes`. Item = block * rows + row.
    """
    mine = permutation(seed, epoch, blocks)[lane::lanes][which * window : (which + 1) * window]
    items = (mine[:, None] * rows + np.arange(rows)).reshape(-1)
    return np.random.Generator(np.random.Philox(key=key("lane", seed, epoch, lane, which))).permutation(items)


# ---------------------------------------------------------------- tables


def plans(parts: dict[str, float]) -> list[Plan]:
    """The platform of today, and what it becomes change by change. `parts`: fields of Plan, as measured."""
    today = replace(Plan("today"), **{name: parts[name] for name in parts if name != "stream"})
    if "stream" in parts:
        between = replace(today.between, stream=min(parts["stream"], today.between.stream))
        today = replace(today, between=between)
    summed = replace(today, name="+ hierarchical sums", hierarchical=True)
    beside = replace(summed, name="+ sums beside the backward pass", overlaps=True)
    local = replace(beside, name="+ read ahead, nine of ten from own disk", ahead=True, cached=0.9)
    return [today, summed, beside, local, replace(local, name="+ sharded checkpoints", sharded=True)]


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [heads, ["---"] * len(heads), *rows])


def tables(made: Sequence[Plan]) -> dict[str, str]:
    today, summed, sharded = made[0], made[1], made[-1]
    heads = [f"{n:,} workers" for n in COUNTS]
    steps = {
        "slowest computes, s": lambda n: f"{today.step_s * (1 + today.spread * harmonic(n)):.3f}",
        "flat ring, s": lambda n: f"{today.reduce_s(n):.3f}",
        "hierarchical, s": lambda n: f"{summed.reduce_s(n):.3f}",
        "reading, no cache, s": lambda n: f"{today.reading_s(n):.3f}",
        "reading, nine of ten from own disk, s": lambda n: f"{sharded.reading_s(n):.3f}",
        "between failures, h": lambda n: f"{today.mtbf_s(n) / 3600:,.0f}",
        "restart, s": lambda n: f"{today.restart_s(n):,.0f}",
        "restart, sharded, s": lambda n: f"{sharded.restart_s(n):,.0f}",
        "a save stops training, s": lambda n: f"{today.saving(n).stall_s:.2f}",
        "the same, sharded, s": lambda n: f"{sharded.saving(n).stall_s:.3f}",
    }
    goodput = [[p.name, *(f"{p.best(n)[1]:.3f}" for n in COUNTS)] for p in made]
    spot = [replace(p, name=f"{p.name}; a node lasts 1 day", node_mtbf_s=DAY) for p in made]
    goodput += [[p.name, *(f"{p.best(n)[1]:.3f}" for n in COUNTS)] for p in (spot[0], spot[-1])]
    rows = []
    for plan in (today, spot[0], spot[-1]):
        saving, mtbf, again = plan.saving(1000), plan.mtbf_s(1000), plan.restart_s(1000)
        ideal = plan.step_s / plan.step(1000)
        closed = [ideal * expected_goodput(t, saving.stall_s, mtbf, again) for t in (60, 300, 1800, 7200)]
        shown = [plan.goodput(1000, t) for t in (60, 300, 1800, 7200)]
        best = f"{young_s(saving.stall_s, mtbf):,.0f} / {daly_s(saving.stall_s, mtbf):,.0f}"
        cells = [f"{a:.3f} / {b:.3f}" for a, b in zip(shown, closed, strict=True)]
        rows.append([plan.name, *cells, best, f"{plan.best(1000)[0]:,.0f}"])
    intervals = [
        "1,000 workers",
        "60 s",
        "300 s",
        "1,800 s",
        "7,200 s",
        "best: Young / Daly, s",
        "simulated, s",
    ]
    return {
        "a step": table(["part", *heads], [[name, *map(f, COUNTS)] for name, f in steps.items()]),
        "goodput at its best interval": table(["plan", *heads], goodput),
        "goodput by interval, simulated / closed form": table(intervals, rows),
    }


def main() -> None:
    words = argparse.ArgumentParser(description="Goodput on up to 1,000 workers, simulated.")
    words.add_argument("--parts", type=Path, help="what scale_parts.py wrote")
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    made = tables(plans(json.loads(asked.parts.read_text())["model"] if asked.parts else {}))
    if asked.json:
        print(json.dumps(made))
    else:
        print("\n\n".join(f"{name}\n\n{text}" for name, text in made.items()))


if __name__ == "__main__":
    main()
