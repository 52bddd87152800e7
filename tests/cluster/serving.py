"""Endpoints under load for the tests: processes by what they hold, kills, and a load of probes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from penstock.benchmarks.load import Shot, Target, fire, summary
from penstock.serving.server import Endpoint
from penstock.store import Store
from tests import probe

MIB = 1024 * 1024
PENSTOCK = Path(sys.executable).with_name("penstock")
BODIES = [
    probe.Request(image=probe.png(side, colour)).model_dump_json(exclude_unset=True).encode()
    for side, colour in ((4, (200, 100, 0)), (8, (100, 0, 0)), (300, (17, 200, 3)))
]
REDS = (200.0, 100.0, 17.0)


def right(scales: dict[str, float]) -> Callable[[str, int, bytes], bool]:
    """Whether version `model` of the probe answers as its scale says."""

    def check(model: str, index: int, answer: bytes) -> bool:
        return model in scales and bool(json.loads(answer)["red"] == REDS[index] * scales[model])

    return check


def replicas(app: str, deployment: str = "ModelReplica") -> list[int]:
    """The pids of the replicas of an application of this process's own Ray."""
    title = f"ray::ServeReplica:{app}:{deployment}"
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                found.append(process.pid)
        except psutil.Error:
            continue
    return sorted(found)


def running(app: str, deployment: str = "ModelReplica") -> int:
    """How many replicas Serve says are up."""
    from ray import serve

    found = serve.status().applications[app].deployments[deployment]
    return int(found.replica_states.get("RUNNING", 0))


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"not so within {seconds:.0f} s"
        time.sleep(0.05)


def kill_one(app: str, deployment: str, draw: Any) -> int:
    """SIGKILLs a replica drawn by `draw`; its pid."""
    pids = replicas(app, deployment)
    pid = int(pids[int(draw.integers(len(pids)))])
    os.kill(pid, signal.SIGKILL)
    return pid


def start(store: Store, *words: str) -> subprocess.Popen[str]:
    """`penstock serve` in a process and a Ray of its own; its first line of stdout is {"url": …}."""
    return subprocess.Popen(
        [PENSTOCK, "serve", *words, "--port", "0", "--json", "--store", store.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "RAY_ADDRESS": ""},
    )


@contextmanager
def started(store: Store, *words: str) -> Iterator[tuple[psutil.Process, str]]:
    """The process of an endpoint that answers at the URL, until the block ends."""
    serving = start(store, *words)
    try:
        assert serving.stdout
        line = serving.stdout.readline()
        assert line, serving.communicate(timeout=60)[1]
        yield psutil.Process(serving.pid), json.loads(line)["url"]
    finally:
        serving.terminate()
        serving.communicate(timeout=60)


class Watched:
    """The processes that serve, before and after something is done to them."""

    def __init__(self, endpoint: Endpoint) -> None:
        assert endpoint.rollouts is not None
        apps = [(way.app, "ModelReplica") for way in endpoint.rollouts.traffic.ways]
        self.places = [*apps, ("penstock", "Gateway")]
        self.pids = self.now()
        self.before = {pid: psutil.Process(pid).memory_info().rss for pid in self.pids}

    def now(self) -> list[int]:
        return sorted(pid for app, deployment in self.places for pid in replicas(app, deployment))

    def grown_mib(self) -> float:
        """Of the one that grew the most, once all are seen to live."""
        assert self.now() == self.pids, "a process died"
        return max((psutil.Process(p).memory_info().rss - was) / MIB for p, was in self.before.items())


class Load:
    """Requests to `url` in a thread, until the block ends; `shots` are there then."""

    def __init__(
        self,
        url: str,
        scales: dict[str, float],
        rate: float,
        seconds: float,
        again: int = 0,
    ) -> None:
        target = Target(url, BODIES, right(scales), again=again)
        self._enough = threading.Event()
        self._done: Future[list[Shot]] = Future()
        self._thread = threading.Thread(target=self._run, args=(target, rate, seconds))
        self.shots: list[Shot] = []

    def _run(self, target: Target, rate: float, seconds: float) -> None:
        try:
            self._done.set_result(asyncio.run(fire(target, rate, seconds, enough=self._enough.is_set)))
        except BaseException as error:
            self._done.set_exception(error)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def stop(self) -> None:
        """No more requests."""
        self._enough.set()

    def over(self) -> bool:
        return self._done.done()

    def __exit__(self, *error: object) -> None:
        self._thread.join()
        self.shots = self._done.result()


def kills(
    url: str, scales: dict[str, float], app: Callable[[], tuple[str, str]], count: int, every_s: float
) -> dict[str, Any]:
    """`count` SIGKILLs of the two replicas of `app` (application, deployment), each once both are up again,
    under 20 requests a second for `count` times `every_s` seconds, and once or twice more for as long where a
    busy machine takes longer to have both up."""
    draw = np.random.default_rng(count)
    killed = 0
    shots: list[Shot] = []
    while killed < count and len(shots) < 3 * 20 * count * every_s:
        with Load(url, scales, 20, count * every_s) as load:
            while killed < count and not load.over():
                wait_until(lambda: load.over() or running(*app()) == 2)
                time.sleep(float(draw.uniform(0.2, 0.6)))
                if load.over():
                    break
                kill_one(*app(), draw)
                killed += 1
                # Serve has noticed; now both must come up
                wait_until(lambda: load.over() or running(*app()) < 2)
        shots += load.shots
    return {**summary(shots), "kills": killed}
