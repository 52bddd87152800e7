"""`penstock bench serve MODEL`: how the model is best served here, and what the endpoint costs and gains.

All over real HTTP on this machine's own address, every answer checked against the predictor's own, the sides
measured in turn in one run. Absolute times are this machine's at that moment; differences and ratios count.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import httpx

from penstock import registry
from penstock.benchmarks.load import Shot, Target, closed, fire
from penstock.benchmarks.pairs import Ratio, compare
from penstock.benchmarks.tuning import loaded, tune
from penstock.errors import PenstockError
from penstock.evaluation.agreement import agree
from penstock.registry import Serving, Version
from penstock.serving.web.address import free_port
from penstock.store import Store

_START_S = 180.0
_ONE_BY_ONE = 40
_CLIENTS = 8
HEAD = {"Content-Type": "application/json"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Side:
    """A server that answers the model's requests at `url`."""

    name: str
    url: str
    group: int | None = None
    """Its process group, where all of it is in one."""

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """None of its processes takes a core in the block: LitServe's workers never rest."""
        assert self.group is not None, f"{self.name} is in several process groups"
        os.killpg(self.group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.group, signal.SIGCONT)


@dataclass
class Asked:
    """The requests, as bodies, and whether an answer is the predictor's own."""

    bodies: Sequence[bytes]
    expected: Sequence[Any]

    def right(self, model: str, index: int, answer: bytes) -> bool:
        try:
            said = type(self.expected[index]).model_validate_json(answer)
        except ValueError:
            return False
        return not agree(self.expected[index], said).faults


def serve(
    reference: str, *, p95_ms: float, store: Store, pairs: int = 5, seconds: float = 4.0, say: Say = print
) -> dict[str, Any]:
    """{"serving": what was written to the card, "ratios": …, "overhead_ms": …}."""
    version = registry.find(store, reference)
    serving, _ = tune(store, version, p95_ms, say)
    say(f"{version.reference} is served with {serving}")
    asked = questions(store, version)
    found: dict[str, Any] = {"serving": asdict(serving), "ratios": {}}
    with started("haproxy", store, version, serving) as ours:
        with (
            started("bare", store, version, serving) as bare,
            started("default", store, version, serving) as default,
        ):
            found["overhead_ms"] = overhead([bare, ours, default], asked, pairs, say)
        for name, measure in (("single", batching), ("litserve", against_litserve)):
            if name == "litserve" and not importable("litserve"):
                say("LitServe is not installed (pip install 'penstock[peers]'): not measured")
                continue
            with started(name, store, version, serving) as theirs:
                ratio = measure(ours, theirs, asked, p95_ms / 1000, pairs, seconds)
            say(ratio.line())
            found["ratios"][name] = ratio.to_json()
    return found


def questions(store: Store, version: Version) -> Asked:
    predictor, requests = loaded(store, version)
    answers = predictor.predict(requests)
    good = [(q, a) for q, a in zip(requests, answers, strict=True) if hasattr(a, "model_dump_json")]
    if not good:
        raise PenstockError(f"{version.reference} answers none of its test items; nothing can be measured")
    return Asked([q.model_dump_json().encode() for q, _ in good], [a for _, a in good])


# ---------------------------------------------------------------- what is measured


def overhead(sides: Sequence[Side], asked: Asked, pairs: int, say: Say) -> dict[str, float]:
    """Milliseconds that each endpoint adds to the median of the first side, the bare server, for one request
    at a time."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(pairs):
        for side in sides if turn % 2 == 0 else reversed(sides):
            times[side.name] += one_by_one(side, asked)
    medians = {name: 1000 * median(each) for name, each in times.items()}
    bare_ms = medians.pop(sides[0].name)
    for name, ms in medians.items():
        say(f"{name}: p50 {ms:.2f} ms, {ms - bare_ms:.2f} over bare FastAPI + uvicorn ({bare_ms:.2f})")
    return {"bare_p50": round(bare_ms, 2), **{name: round(ms - bare_ms, 2) for name, ms in medians.items()}}


def one_by_one(side: Side, asked: Asked) -> list[float]:
    """Seconds of each request, on one connection."""
    times = []
    with httpx.Client(trust_env=False, timeout=60) as client:
        for number in range(_ONE_BY_ONE):
            index = number % len(asked.bodies)
            began = time.perf_counter()
            got = client.post(
                side.url, content=asked.bodies[index], headers={"Content-Type": "application/json"}
            )
            times.append(time.perf_counter() - began)
            if got.status_code != 200 or not asked.right("", index, got.content):
                raise PenstockError(f"{side.name} answered {got.status_code}, or something else than offline")
    return times[5:]


def batching(ours: Side, single: Side, asked: Asked, p95_s: float, pairs: int, seconds: float) -> Ratio:
    """Requests a second at an equal p95, against batches of one."""
    return compare(
        "requests/s with batches",
        f"batch size 1, at a p95 of {1000 * p95_s:g} ms",
        lambda: capacity(ours, asked, p95_s, seconds),
        lambda: capacity(single, asked, p95_s, seconds),
        pairs=pairs,
        unit="requests/s",
    )


def against_litserve(
    ours: Side, theirs: Side, asked: Asked, p95_s: float, pairs: int, seconds: float
) -> Ratio:
    """Requests a second of clients that wait for their answers."""

    def alone() -> float:
        with theirs.stopped():
            return busy(ours, asked, seconds)

    return compare(
        f"requests/s of {_CLIENTS} clients",
        "LitServe with as many processes, batches of the same size and wait",
        alone,
        lambda: busy(theirs, asked, seconds),
        pairs=pairs,
        unit="requests/s",
    )


def capacity(side: Side, asked: Asked, p95_s: float, seconds: float) -> float:
    """The highest rate of an open loop at which 95 of 100 requests are answered, rightly, within `p95_s`."""
    target = Target(side.url, asked.bodies, asked.right, timeout_s=30)

    def holds(rate: float) -> bool:
        shots = asyncio.run(fire(target, rate, seconds, seed=round(rate)))
        return within(shots, p95_s)

    low, high = 0.0, 16.0
    while holds(high) and high < 20_000:
        low, high = high, 2 * high
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return max(low, 0.5)


def within(shots: Sequence[Shot], p95_s: float) -> bool:
    return sum(shot.right and shot.seconds <= p95_s for shot in shots) >= 0.95 * len(shots)


def busy(side: Side, asked: Asked, seconds: float) -> float:
    """Requests a second of some clients, each of which sends its next when it has its answer."""
    return asyncio.run(closed(Target(side.url, asked.bodies, asked.right), _CLIENTS, seconds))


# ---------------------------------------------------------------- the servers


def started(name: str, store: Store, version: Version, serving: Serving) -> AbstractContextManager[Side]:
    """One of the sides, until the block ends."""
    named, threads = [store.url, version.reference], str(serving.threads)
    if name == "bare":
        return bare("bare_server", named, [threads])
    if name == "litserve":
        workers = str(serving.most_replicas)
        return bare("lit_server", named, [threads, str(serving.batch), str(serving.batch_wait_s), workers])
    ingress, batch = {"default": ("proxy", 0), "haproxy": ("haproxy", 0), "single": ("haproxy", 1)}[name]
    return endpoint(name, named, ingress, batch, f"/v1/models/{version.name}@{version.version}/predict")


def importable(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


@contextmanager
def endpoint(name: str, named: Sequence[str], ingress: str, batch: int, path: str) -> Iterator[Side]:
    """`penstock serve` in a process and a Ray of its own."""
    words = [sys.executable, "-m", "penstock.benchmarks.served", *named]
    with child([*words, ingress, str(batch)]) as (process, last):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise PenstockError(f"the endpoint {name!r} did not start: {last()}")
        yield Side(name, json.loads(line)["url"] + path)


@contextmanager
def bare(module: str, named: Sequence[str], more: Sequence[str]) -> Iterator[Side]:
    """A module of this package that serves without any of ours."""
    port = free_port("127.0.0.1", 0)
    words = [sys.executable, "-m", f"penstock.benchmarks.{module}", *named, str(port), *more]
    url = f"http://127.0.0.1:{port}"
    with child(words) as (process, last):
        until = time.monotonic() + _START_S
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise PenstockError(f"{module} did not start on port {port}: {last()}")
            try:
                httpx.get(url, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield Side(module, f"{url}/predict", process.pid)


@contextmanager
def child(words: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """A process that is ended with all its own when the block ends, and what gives the last line it said."""
    with tempfile.TemporaryFile() as log:

        def last() -> str:
            log.seek(0)
            return (log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1][:300]

        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, env={**os.environ}
        )
        try:
            yield process, last
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with suppress(ProcessLookupError):  # nobody is left
                os.killpg(process.pid, signal.SIGKILL)  # LitServe's workers outlive it
            process.wait()
            if process.stdout:
                process.stdout.close()
