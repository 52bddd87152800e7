"""How a model is best served on this machine: batch size, wait, threads and replicas for a stated p95.

What batches of each size take is measured; how many requests a second come back within the p95 with each size
and wait is simulated from that (queueing.py), as it would take hours to measure. The most is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from penstock import registry
from penstock.benchmarks.queueing import capacity
from penstock.errors import ModelError
from penstock.evaluation.agreement import agree
from penstock.registry import Serving, Version
from penstock.serving.example import example
from penstock.serving.faster import possible, speed_up
from penstock.store import Store, listed
from penstock.workload import Predictor, resolve

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_REPEATS = 7
_LONGEST_S = 10.0  # of measuring one way; slow ones are measured fewer times
_ROOM = 0.8  # of the p95: HTTP and the other processes of the machine need some of it
_WAITS_S = (0.0, 0.001, 0.002, 0.005)  # for a batch to fill
_REQUESTS = 64
_WORTH = 1.1  # times as fast


@dataclass(frozen=True)
class Way:
    """One way to compute, and what a batch takes."""

    batch: int
    threads: int
    seconds: float


@dataclass(frozen=True)
class Choice:
    """A way to answer, and what it is good for: requests a second within the p95, all replicas together."""

    batch: int
    wait_s: float
    threads: int
    replicas: int
    rate: float


def tune(
    store: Store, version: Version, p95_ms: float, say: Callable[[str], None] = print
) -> tuple[Serving, list[Way]]:
    """Measures, writes what is best to the version's card, and gives it with everything measured.

    ModelError when hardly any request would be answered within the p95.
    """
    predictor, requests = loaded(store, version)
    cores = len(os.sched_getaffinity(0))
    ways = list(measured(predictor, requests, cores, p95_ms / 1000, say))
    chosen = best(ways, p95_ms / 1000, cores)
    if chosen is None:
        quickest = min(ways, key=lambda way: way.seconds)
        raise ModelError(
            f"{version.reference} takes {1000 * quickest.seconds:.0f} ms for one request on this machine: "
            f"--p95 {p95_ms:g}ms cannot be kept; ask for more"
        )
    with torch_threads(chosen.threads):
        faster = quickened(store, version, predictor, requests, chosen.batch, say)
    serving = Serving(
        batch=chosen.batch,
        batch_wait_s=chosen.wait_s,
        threads=chosen.threads,
        most_replicas=chosen.replicas,
        faster=faster,
        p95_ms=p95_ms,
    )
    registry.tune(version.path.parent, version.version, serving)
    return serving, ways


def loaded(store: Store, version: Version) -> tuple[Predictor[Any, Any], list[Any]]:
    """A version's predictor, and requests for it: test items where the data is here, else its example."""
    from penstock.data.dataset import Dataset

    workload = registry.workload_of(version)
    model = registry.load(store, version)
    predictor = fresh(store, version)
    folder = store.datasets / version.card["data"]["id"]
    if folder.name not in listed(store.datasets):
        return predictor, [workload.request.model_validate(example(workload.request))]
    test = Dataset.load(folder).test
    rows = list(test.rows(range(min(_REQUESTS, len(test)))))
    evaluator: Any = resolve(workload.evaluator)(model.config, model.schema)
    return predictor, list(evaluator.requests(rows))


def fresh(store: Store, version: Version) -> Predictor[Any, Any]:
    """A version's predictor on the CPU."""
    workload = registry.workload_of(version)
    predictor: Predictor[Any, Any] = resolve(workload.predictor)(registry.load(store, version), "cpu")
    return predictor


def quickened(
    store: Store,
    version: Version,
    plain: Predictor[Any, Any],
    requests: Sequence[Any],
    batch: int,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """The ways of penstock.serving.faster that make batches at least a tenth faster on top of each other,
    with every answer to `requests` the same as of `plain`."""
    asked = [requests[i % len(requests)] for i in range(batch)]
    expected = answers(plain, requests, batch)
    taken: tuple[str, ...] = ()
    best_so_far = plain
    for way in possible(plain):
        try:
            other = fresh(store, version)
            speed_up(other, (*taken, way))
            found = answers(other, requests, batch)
        except Exception as error:  # no compiler, or a network that cannot be changed so
            first = (str(error).splitlines() or [type(error).__name__])[0]
            say(f"{way}: does not work here: {first[:120]}")
            continue
        if any(agree(one, two).faults for one, two in zip(expected, found, strict=True)):
            say(f"{way}: other answers")
            continue
        times = [(_once(best_so_far, asked), _once(other, asked)) for _ in range(_REPEATS)]
        ratio = median(before / after for before, after in times)
        say(f"{way}: the same answers, {ratio:.2f} times as fast")
        if ratio >= _WORTH:
            taken, best_so_far = (*taken, way), other
    return taken


def answers(predictor: Predictor[Any, Any], requests: Sequence[Any], batch: int) -> list[Any]:
    """To all of `requests`, in batches."""
    return [a for at in range(0, len(requests), batch) for a in predictor.predict(requests[at : at + batch])]


def _once(predictor: Predictor[Any, Any], asked: Sequence[Any]) -> float:
    start = time.perf_counter()
    predictor.predict(asked)
    return time.perf_counter() - start


def measured(
    predictor: Predictor[Any, Any],
    requests: Sequence[Any],
    cores: int,
    p95_s: float,
    say: Callable[[str], None],
) -> Iterator[Way]:
    """Each batch size with each number of threads, until batches take longer than could be of use."""
    for threads in sorted({1, cores}):
        with torch_threads(threads):
            for batch in _BATCHES:
                asked = [requests[i % len(requests)] for i in range(batch)]
                predictor.predict(asked)  # whatever is made at the first time
                way = Way(batch, threads, _seconds(lambda asked=asked: predictor.predict(asked)))  # type: ignore[misc]
                say(
                    f"batch {batch}, threads {threads}: {1000 * way.seconds:.2f} ms, "
                    f"{way.batch / way.seconds:.0f} requests/s"
                )
                yield way
                if way.seconds > p95_s:
                    break


def best(ways: Sequence[Way], p95_s: float, cores: int) -> Choice | None:
    """The choice that is good for the most requests a second; of those within a twentieth of it the one with
    the shortest wait and the smallest batch. None where one request alone takes too long."""
    found = []
    for threads in sorted({way.threads for way in ways}):
        sizes, seconds = zip(
            *((way.batch, way.seconds) for way in ways if way.threads == threads), strict=True
        )
        replicas = max(1, cores // threads)

        def takes(size: int, sizes: Any = sizes, seconds: Any = seconds) -> float:
            return float(np.interp(size, sizes, seconds))

        for batch in sizes:
            for wait_s in _WAITS_S if batch > 1 else (0.0,):
                rate = replicas * capacity(batch, wait_s, takes, _ROOM * p95_s)
                found.append(Choice(batch, wait_s, threads, replicas, rate))
    most = max((one.rate for one in found), default=0.0)
    alike = [one for one in found if 0 < 0.95 * most <= one.rate]
    return min(alike, key=lambda one: (one.wait_s, one.batch, one.threads), default=None)


def _seconds(work: Callable[[], Any]) -> float:
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _REPEATS and (len(times) < 2 or time.perf_counter() - began < _LONGEST_S):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch computes with `count` threads in the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
