"""More than the endpoint can take: too many requests, clients that give up, bodies that hardly come.
What it takes is answered rightly, the rest is turned away, nothing dies."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import aiohttp
import httpx
import numpy as np
import pytest

from penstock.benchmarks.load import Target, closed, summary
from penstock.serving.limits import Limits
from penstock.serving.server import Endpoint, serve
from penstock.store import Store
from tests import probe
from tests.cluster.serving import BODIES, Load, Watched, right, wait_until

LIMITS = Limits(queue=16, batch=4, rate=1e6)
SCALES = {"slow@1": 1.0, "probe@1": 1.0}
Figures = Callable[[dict[str, object]], None]


def lasting(short: int, long: int) -> pytest.MarkDecorator:
    """For so many seconds in the suite, and in the long form."""
    return pytest.mark.parametrize("seconds", [short, pytest.param(long, marks=pytest.mark.soak)])


@pytest.fixture(scope="module")
def endpoint(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    store = Store.open(tmp_path_factory.mktemp("overload"))
    probe.publish(store)
    probe.publish(store, "slow", delay_s=0.04)
    with serve(store=store, port=0, limits=LIMITS, block=False) as endpoint:
        yield endpoint


def waiting(endpoint: Endpoint, name: str) -> int:
    text = httpx.get(f"{endpoint.url}/metrics", trust_env=False).text
    found = re.search(rf'penstock_requests_in_flight\{{model="{name}",version="1"\}} (\d+)', text)
    return int(found[1]) if found else 0


@lasting(6, 60)
@pytest.mark.timeout(300)
def test_five_times_what_it_can(endpoint: Endpoint, seconds: int, figures: Figures) -> None:
    watched = Watched(endpoint)
    url = f"{endpoint.url}/v1/models/slow/predict"
    target = Target(url, BODIES, right(SCALES))
    capacity = asyncio.run(closed(target, 16, 4.0))
    with Load(url, SCALES, 5 * capacity, seconds) as load:
        pass
    found = summary(load.shots)
    turned_away = [shot for shot in load.shots if shot.status in (429, 503)]
    accepted = sum(shot.right for shot in load.shots)
    good = sum(shot.right and shot.due + shot.seconds <= seconds for shot in load.shots)  # no late harvest
    figures(
        {
            "capacity_per_s": round(capacity, 1),
            "offered_per_s": round(5 * capacity, 1),
            "seconds": seconds,
            "goodput_share": round(good / seconds / capacity, 3),
            "bound_p99_ms": round(2000 * (LIMITS.queue + LIMITS.batch) / capacity),
            "turned_away_p50_ms": round(1000 * float(np.median([shot.seconds for shot in turned_away])), 1),
            "memory_grown_mib": round(watched.grown_mib(), 1),
            **found,
        }
    )
    assert accepted + len(turned_away) == found["requests"] and accepted > seconds, found["statuses"]
    assert all(shot.later for shot in turned_away) and turned_away
    wait_until(lambda: waiting(endpoint, "slow") == 0, 10)


@lasting(5, 300)
@pytest.mark.timeout(400)
def test_clients_that_give_up(endpoint: Endpoint, seconds: int, figures: Figures) -> None:
    """Every other client hangs up while its request waits or is answered."""
    watched = Watched(endpoint)
    url = f"{endpoint.url}/v1/models/slow/predict"
    draw = np.random.default_rng(seconds)
    done: Counter[str] = Counter()

    async def one(session: aiohttp.ClientSession, number: int, patience: float) -> None:
        post = session.post(url, data=BODIES[number % 3], headers={"Content-Type": "application/json"})
        try:
            async with asyncio.timeout(patience), post as got:
                answer = await got.read()
                known = got.status == 200 and right(SCALES)("slow@1", number % 3, answer)
                done["answered" if known else f"{got.status}"] += 1
        except TimeoutError:
            done["hung up"] += 1

    async def storm() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            until, number, tasks = time.monotonic() + seconds, 0, []
            while time.monotonic() < until:
                patience = float(draw.uniform(0, 0.1)) if number % 2 else 60.0
                tasks.append(asyncio.create_task(one(session, number, patience)))
                number += 1
                await asyncio.sleep(0.05)
            await asyncio.gather(*tasks)

    asyncio.run(storm())
    wait_until(lambda: waiting(endpoint, "slow") == 0, 20)
    with Load(url, SCALES, 10, 2) as load:  # the batcher still batches
        pass
    figures({"seconds": seconds, **done, "memory_grown_mib": round(watched.grown_mib(), 1)})
    assert set(done) <= {"answered", "hung up", "503"} and done["answered"] and done["hung up"], done
    assert summary(load.shots)["failed"] == 0


@lasting(11, 60)
@pytest.mark.timeout(300)
def test_bodies_that_hardly_come(endpoint: Endpoint, seconds: int, figures: Figures) -> None:
    """A hundred connections that send a byte now and then, beside ordinary load."""
    watched = Watched(endpoint)
    at = httpx.URL(endpoint.url)
    head = b"POST /v1/models/probe/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    cut = 0
    with Load(f"{endpoint.url}/v1/models/probe/predict", SCALES, 10, seconds) as load:
        while not load.over():
            wires = [socket.create_connection((at.host, at.port or 80), timeout=20) for _ in range(100)]
            for wire in wires:
                wire.sendall(head + b"Content-Length: 1000000\r\n\r\n\x89PN")
            for wire in wires:
                wire.sendall(b"G")
            for wire in wires:
                answer = wire.recv(4096)
                assert b" 408 " in answer.partition(b"\r\n")[0], answer[:200]
                wire.close()
                cut += 1
    found = summary(load.shots)
    figures({"seconds": seconds, "cut": cut, "memory_grown_mib": round(watched.grown_mib(), 1), **found})
    assert found["failed"] == 0 and cut >= 100, found
