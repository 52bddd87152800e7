"""Where gateways learn how traffic goes, and say what came of it: an actor between them and the rollouts.

It decides nothing. Started anew it is empty until the rollouts tell it again, and gateways go on with what
they know.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypedDict

import ray

from penstock.cluster import ensure_ray
from penstock.errors import PenstockError
from penstock.serving.problems import Problem
from penstock.serving.versions.traffic import Traffic

NAME = "penstock-switch"
NAMESPACE = "penstock"
WAIT_S = 1.0
"""The longest that `after` waits, and so the time between two reports of a gateway."""
_RECORDS = 1000


class News(TypedDict):
    """What a gateway has not heard yet. `told`: how far it goes; `feedback`: (request id, truth) on answers
    that one of the gateways has given; `fatal`: inputs that killed two replicas (attempts.identity)."""

    traffic: dict[str, Any] | None
    told: int
    feedback: list[tuple[str, Any]]
    fatal: list[bytes]


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=256)
class Switch:
    """The traffic of one endpoint (versions.traffic.Traffic.plain), and its gateways' counts."""

    def __init__(self) -> None:
        self.traffic: dict[str, Any] | None = None
        self.changed = asyncio.Event()
        self.counts: dict[str, dict[str, Any]] = {}
        self.numbers: dict[str, int] = {}
        self.records: defaultdict[str, deque[bytes]] = defaultdict(lambda: deque(maxlen=_RECORDS))
        self.heard: deque[tuple[int, str, Any]] = deque(maxlen=_RECORDS)
        self.told = 0

    async def turn(self, traffic: dict[str, Any]) -> None:
        """From now on traffic goes like this."""
        self.traffic = traffic
        self._wake()

    async def known(self) -> dict[str, Any]:
        """The traffic as it goes now."""
        return self.traffic or Traffic().plain()

    async def number(self) -> int:
        """Of the traffic that is known here; -1 when none is."""
        return self.traffic["number"] if self.traffic else -1

    async def report(
        self, gateway: str, number: int, counts: Mapping[str, Any], records: Mapping[str, Sequence[bytes]]
    ) -> None:
        """The traffic that `gateway` goes by, all it has counted, and the records made since it was here."""
        self.numbers[gateway], self.counts[gateway] = number, dict(counts)
        for title, made in records.items():
            self.records[title].extend(made)

    async def following(self, number: int) -> int:
        """How many gateways go by traffic `number` or a later one."""
        return sum(known >= number for known in self.numbers.values())

    async def after(self, number: int, told: int) -> News:
        """What is new to a gateway that knows traffic `number` and has been told up to `told`; waits for it,
        up to WAIT_S."""
        if number == await self.number() and told == self.told:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), WAIT_S)
        traffic = self.traffic if number != await self.number() else None
        new = [(kind, what) for n, kind, what in self.heard if n > told]
        feedback = [what for kind, what in new if kind == "feedback"]
        fatal = [what for kind, what in new if kind == "fatal"]
        return News(traffic=traffic, told=self.told, feedback=feedback, fatal=fatal)

    async def pass_on(self, kind: Literal["feedback", "fatal"], what: Any) -> None:
        """Tells every gateway of something that News has a place for."""
        self.told += 1
        self.heard.append((self.told, kind, what))
        self._wake()

    async def labelled(self, title: str) -> list[bytes]:
        """The newest records of a version (Arrow, as streams)."""
        return list(self.records[title])

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def counted(self) -> dict[str, dict[str, Any]]:
        """The latest counts of each gateway that ever reported."""
        return self.counts


def start(kept: bool = False) -> Any:
    """The switch of the endpoint that this process starts. `kept`: it outlives the process, and the next one
    finds it as it was."""
    lifetime = "detached" if kept else None
    options = Switch.options(  # type: ignore[attr-defined]
        name=NAME, namespace=NAMESPACE, lifetime=lifetime, get_if_exists=kept
    )
    return options.remote()


def find() -> Any:
    """The switch, from any process of the cluster; ValueError when no endpoint runs."""
    return ray.get_actor(NAME, namespace=NAMESPACE)


def handle(reference: str) -> Any:
    """The Serve handle (ray.serve.get_app_handle) of the version that answers `reference` (name, name@alias,
    name@version) now, for Python on the endpoint's own cluster:

        reply = penstock.handle("pathology").predict.remote({"image": raw}).result()
        reply["answer"]  # JSON, or reply["refusal"]

    It goes past the gateway: no keys, no second chance, no queue but the replicas' own. Ask for it again
    after a while, as another version may answer by then. PenstockError when no endpoint runs, or it does not
    serve that.
    """
    from ray import serve

    ensure_ray()
    try:
        traffic = Traffic.of(ray.get(find().known.remote()))
        return serve.get_app_handle(traffic.choose(reference).app)
    except ValueError:
        raise PenstockError("no endpoint runs on this cluster; penstock serve") from None
    except Problem as problem:
        raise PenstockError(problem.detail) from None
