"""The endpoint's application under Ray Serve, with handles to the models' applications."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from time import monotonic
from typing import Any

import ray
from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, TaskCancelledError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from penstock.errors import PenstockError
from penstock.registry import Serving
from penstock.serving.calls import Lost, Piece, Reply, Unavailable
from penstock.serving.front import Front
from penstock.serving.limits import Limits
from penstock.serving.memory import Answered
from penstock.serving.on_ray import switch
from penstock.serving.on_ray.deployment import OPTIONS, SWITCH_S
from penstock.serving.on_ray.outbox import Outbox
from penstock.serving.versions.rollout import START_S
from penstock.serving.versions.traffic import Traffic, Way
from penstock.serving.web.access import Keyring, path_of
from penstock.serving.web.door import App
from penstock.serving.web.routes import create_app
from penstock.store import Store

GATEWAY = "penstock"
_PING_S = 1.0
_AGAIN_S = 0.25
_JUDGED_S = 10.0


class Handles:
    """The running models behind Serve's handles (penstock.serving.calls.Models)."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._busy: dict[str, int] = {}
        self._answered: dict[str, float] = {}

    def prepare(self, app: str) -> Any:
        """The handle of `app`. Called once from any thread, so that its first request need not wait."""
        if app not in self._handles:
            self._handles[app] = serve.get_app_handle(app)
        return self._handles[app]

    def outbox(self, app: str) -> Outbox:
        """Where requests to `app` leave."""
        if app not in self._outboxes:
            self._outboxes[app] = Outbox(lambda many: self._ask(app, "predict_many", many))
        return self._outboxes[app]

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        self._busy[app] = self._busy.get(app, 0) + 1
        try:
            reply = await self.outbox(app).ask(values, alone)
            self._answered[app] = monotonic()
            return reply
        finally:
            self._busy[app] -= 1

    async def stream(self, app: str, values: Mapping[str, Any]) -> AsyncIterator[Piece]:
        response = None
        self._busy[app] = self._busy.get(app, 0) + 1
        try:
            with _translated():
                response = self.prepare(app).options(stream=True).stream.remote(values)
                async for piece in response:
                    yield piece
        finally:
            self._busy[app] -= 1
            if response is not None:
                response.cancel()  # harmless once it has ended

    async def judge(self, app: str, answer: bytes, truth: Mapping[str, Any]) -> Reply:
        reply: Reply = await self._ask(app, "judge", answer, truth)
        return reply

    async def position(self, app: str, values: Mapping[str, Any]) -> Reply:
        reply: Reply = await self._ask(app, "position", values)
        return reply

    async def ready(self, app: str) -> bool:
        answered = self._answered.get(app)
        if answered is not None and monotonic() - answered < _PING_S:
            return True
        try:
            async with asyncio.timeout(_PING_S):
                await self._ask(app, "ready")
        except Unavailable:
            self._answered.pop(app, None)
            return False
        except TimeoutError:
            # a replica with a full queue does not answer either: it is not to be called dead
            return answered is not None and self._busy.get(app, 0) > 0
        self._answered[app] = monotonic()
        return True

    async def _ask(self, app: str, method: str, *arguments: Any) -> Any:
        response = None
        try:
            with _translated():
                response = getattr(self.prepare(app), method).remote(*arguments)
                return await response
        except Lost:
            self._answered.pop(app, None)
            raise
        except asyncio.CancelledError:
            # a deadline, or a client that hung up: nobody waits for the answer any more
            if response is not None:
                response.cancel()
            raise


@contextmanager
def _translated() -> Iterator[None]:
    """What Serve and Ray raise, in the words of penstock.serving.calls."""
    try:
        yield
    except BackPressureError:
        raise Unavailable("has too many requests waiting") from None
    except (RayActorError, ReplicaUnavailableError, DeploymentUnavailableError) as error:
        died = isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError)
        raise Lost("is being started again", working=died) from None
    except (TaskCancelledError, RequestCancelledError):
        # not by us: the replica was stopped while it had the request
        raise Lost("gave the request up", working=False) from None
    except RayServeException:
        raise Unavailable("is being started") from None


def _switch() -> Any:
    """The endpoint's switch; waited for where it is started beside the gateways. PenstockError when there is
    none."""
    until = monotonic() + START_S
    while monotonic() < until:
        with suppress(ValueError):
            return switch.find()
        time.sleep(_AGAIN_S)
    raise PenstockError(f"no endpoint was started within {START_S:.0f} s")


class Follower:
    """Keeps a gateway at what the switch says, and the switch at what the gateway counts."""

    def __init__(self, handles: Handles, limits: Limits, alone: bool, replicas: int) -> None:
        self._handles, self._replicas = handles, replicas
        self._name = str(uuid.uuid4())
        self._switch = _switch()
        self._traffic, self._told = Traffic(-1), 0
        self.front = Front(lambda: self._traffic, handles, limits)
        if not alone:
            self.front.pass_on = lambda one, truth: self._switch.pass_on.remote("feedback", (one, truth))
            self.front.attempts.pass_on = lambda key: self._switch.pass_on.remote("fatal", key)
        while self._traffic.number < 0:  # the endpoint has been told how traffic goes before it starts
            self._follow()
        threading.Thread(target=self._run, name="follower", daemon=True).start()

    def _follow(self) -> None:
        news = ray.get(self._switch.after.remote(self._traffic.number, self._told))
        if news["traffic"] is not None:
            traffic = Traffic.of(news["traffic"])
            for way in traffic.ways:
                self._handles.prepare(way.app)
                outbox = self._handles.outbox(way.app)
                outbox.together, outbox.lanes = self._room(way)
                way.model.prepare()
            self._traffic = traffic
        self._told = news["told"]
        for key in news["fatal"]:
            self.front.attempts.remember(key)
        for request_id, truth in news["feedback"]:
            answered = self.front.memory.take(request_id)
            if answered is not None:
                self._judge(answered, truth)
        counts = {title: tally.plain() for title, tally in list(self.front.tallies.items())}
        records = {title: self.front.records.pop(title) for title in list(self.front.records)}
        self._switch.report.remote(self._name, self._traffic.number, counts, records)

    def _room(self, way: Way) -> tuple[int, int]:
        """(requests in a call, calls on their way): two for each replica, one computed and one waiting;
        where nothing is computed together, calls carry one request each and more of them wait."""
        card = Serving.of(way.model.card).within(self.front.limits.batch, self._replicas)
        return card.batch, (2 if card.batch > 1 else 8) * card.most_replicas

    def _judge(self, answered: Answered, truth: Any) -> None:
        """As Front.judge, for feedback that came by another gateway: nobody waits for what becomes of it."""
        handle = self._handles.prepare(answered.app)
        reply = handle.judge.remote(answered.answer, truth).result(timeout_s=_JUDGED_S)
        if "answer" in reply:
            self.front.scored(answered.title, reply["answer"])

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except (RayError, RayServeException, ValueError, TimeoutError):
                # the switch or an application is being started again: on with what is known
                time.sleep(_AGAIN_S)


@serve.deployment
@serve.ingress()
class Gateway:
    """The ingress. Built in the replica from plain values."""

    def __init__(
        self, limits: Mapping[str, Any], keys: str | None, alone: bool, replicas: int, *beside: Any
    ) -> None:
        _log_to_stderr()
        sys.setswitchinterval(SWITCH_S)
        self.keyring = Keyring(path_of(Store.open(keys))) if keys else None
        self.follower = Follower(Handles(), Limits(**limits), alone, replicas)

    def __serve_build_asgi_app__(self) -> App:
        return create_app(self.follower.front, self.keyring)


def _log_to_stderr() -> None:
    """One JSON object a line, in the worker's own file of the session's log folder."""
    logger = logging.getLogger("penstock.access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Serve turns sys.stderr into a logger of its own, with its own level and layout
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)


def gateway_app(
    limits: Limits, gateways: int, keys: str | None, replicas: int, *beside: serve.Application
) -> serve.Application:
    """The gateway as a Serve application. `keys`: the store with the keys that clients have to show;
    `replicas`: at least so many of each model; `beside`: deployments that run in the same application."""
    return Gateway.options(  # type: ignore[attr-defined]
        name="Gateway",
        num_replicas=gateways,
        ray_actor_options={"num_cpus": 0.1 / gateways},
        # the gateway turns requests away itself, per model and by bytes held; this is the last bound
        max_ongoing_requests=1024,
        max_queued_requests=1024,
        **OPTIONS,
    ).bind(asdict(limits), keys, gateways == 1, replicas, *beside)
