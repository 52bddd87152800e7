"""Open-loop load: requests leave when they are due, whether or not earlier ones have been answered, and each
one's time counts from when it was due. A server that stands still is seen to stand still."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

NO_ANSWER = 0
"""The status of a request whose connection broke, or that was not answered in time."""


@dataclass(frozen=True)
class Shot:
    """One request. `due`: seconds after the start; `seconds`: from then to the whole answer; `status`:
    NO_ANSWER or HTTP's; `model`: name@version that answered; `right`: whether the answer was the expected
    one; `tries`: how often it was sent; `later`: whether a rejection said when to come again."""

    due: float
    seconds: float
    status: int
    model: str = ""
    right: bool = False
    tries: int = 1
    later: bool = False


@dataclass(frozen=True)
class Target:
    """What is asked. `bodies`: sent in turn; `right(model, index, answer)`: whether version `model` should
    answer body number `index` like that."""

    url: str
    bodies: Sequence[bytes]
    right: Callable[[str, int, bytes], bool]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    timeout_s: float = 40.0
    again: int = 0
    """How often a request is sent again after a broken connection, 502 or 503, as a client would."""


async def fire(
    target: Target, rate: float, seconds: float, seed: int = 0, enough: Callable[[], bool] = lambda: False
) -> list[Shot]:
    """`rate` requests a second on average for `seconds`, or until `enough`, at random moments (a Poisson
    process)."""
    draw = np.random.Generator(np.random.Philox(key=seed))
    dues = np.sort(draw.uniform(0, seconds, size=round(rate * seconds)))
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
    timeout = aiohttp.ClientTimeout(total=target.timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        began = time.monotonic()
        shots = []
        for number, due in enumerate(dues):
            wait = began + due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            if enough():
                break
            shots.append(asyncio.create_task(_shoot(session, target, number, began, float(due))))
        return list(await asyncio.gather(*shots))


async def closed(target: Target, clients: int, seconds: float) -> float:
    """Right answers a second for `clients` that each send their next request when they have an answer."""
    done = 0

    async def client(session: aiohttp.ClientSession, number: int, until: float) -> None:
        nonlocal done
        while time.monotonic() < until:
            shot = await _shoot(session, target, number, time.monotonic(), 0.0)
            done += shot.right and time.monotonic() <= until  # what is under way at the end is not done
            number += clients

    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        until = time.monotonic() + seconds
        await asyncio.gather(*(client(session, first, until) for first in range(clients)))
    return done / seconds


async def _shoot(
    session: aiohttp.ClientSession, target: Target, number: int, began: float, due: float
) -> Shot:
    index = number % len(target.bodies)
    shot = Shot(due, 0.0, NO_ANSWER)
    for tries in range(1, target.again + 2):
        try:
            async with session.post(
                target.url, data=target.bodies[index], headers=dict(target.headers)
            ) as got:
                answer, model = await got.read(), got.headers.get("X-Model", "")
                right = got.status == 200 and target.right(model, index, answer)
                later = "Retry-After" in got.headers
                shot = Shot(due, 0.0, got.status, model, right, tries, later)
        except (aiohttp.ClientError, TimeoutError):
            shot = Shot(due, 0.0, NO_ANSWER, tries=tries)
        if shot.status not in (NO_ANSWER, 502, 503) or tries > target.again:
            break
        await asyncio.sleep(0.1 * tries)
    taken = time.monotonic() - began - due
    return Shot(due, taken, shot.status, shot.model, shot.right, shot.tries, shot.later)


def summary(shots: Sequence[Shot]) -> dict[str, Any]:
    """Requests, how many failed (no answer, an error, or a wrong answer), by status and version, and the
    milliseconds of the right ones."""
    right = [shot.seconds for shot in shots if shot.right]
    times = (
        {f"p{q}_ms": round(1000 * float(np.percentile(right, q)), 1) for q in (50, 95, 99)} if right else {}
    )
    return {
        "requests": len(shots),
        "failed": sum(not shot.right for shot in shots),
        "wrong": sum(shot.status == 200 and not shot.right for shot in shots),
        "tried_again": sum(shot.tries > 1 for shot in shots),
        "statuses": {str(status): n for status, n in sorted(Counter(s.status for s in shots).items())},
        "models": dict(sorted(Counter(shot.model for shot in shots if shot.right).items())),
        **times,
    }
