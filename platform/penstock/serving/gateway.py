"""The endpoint's application under Ray Serve, with handles to the models' applications."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, TaskCancelledError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
)

from penstock.serving.calls import Reply, Unavailable
from penstock.serving.door import App
from penstock.serving.limits import Limits
from penstock.serving.routes import create_app
from penstock.serving.served import Served

GATEWAY = "penstock"
_PING_S = 1.0


def app_name(model: str) -> str:
    """The Serve application of a served name."""
    return f"model-{model}"


class Handles:
    """The running models behind Serve's handles (penstock.serving.calls.Models)."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._busy: dict[str, int] = {}
        self._answered: dict[str, float] = {}

    async def call(self, name: str, values: Mapping[str, Any]) -> Reply:
        self._busy[name] = self._busy.get(name, 0) + 1
        try:
            reply: Reply = await self._ask(name, "predict", values)
            self._answered[name] = monotonic()
            return reply
        finally:
            self._busy[name] -= 1

    async def ready(self, name: str) -> bool:
        answered = self._answered.get(name)
        if answered is not None and monotonic() - answered < _PING_S:
            return True
        try:
            async with asyncio.timeout(_PING_S):
                await self._ask(name, "ready")
        except Unavailable:
            self._answered.pop(name, None)
            return False
        except TimeoutError:
            # a replica with a full queue does not answer either: it is not to be called dead
            return answered is not None and self._busy.get(name, 0) > 0
        self._answered[name] = monotonic()
        return True

    async def _ask(self, name: str, method: str, *arguments: Any) -> Any:
        response = None
        try:
            if name not in self._handles:
                self._handles[name] = serve.get_app_handle(app_name(name))
            response = getattr(self._handles[name], method).remote(*arguments)
            return await response
        except BackPressureError:
            raise Unavailable("has too many requests waiting") from None
        except (RayActorError, ActorUnavailableError, DeploymentUnavailableError):
            self._answered.pop(name, None)
            raise Unavailable("is being started again") from None
        except (TaskCancelledError, RequestCancelledError):
            raise Unavailable("gave the request up") from None
        except RayServeException:
            raise Unavailable("is being started") from None
        except asyncio.CancelledError:
            # a deadline, or a client that hung up: nobody waits for the answer any more
            if response is not None:
                response.cancel()
            raise


@serve.deployment
@serve.ingress()
class Gateway:
    """The ingress. Built in the replica from plain values."""

    def __init__(self, models: Sequence[Mapping[str, Any]], limits: Mapping[str, Any]) -> None:
        _log_to_stderr()
        self.models = [Served(**{**model, "aliases": tuple(model["aliases"])}) for model in models]
        self.limits = Limits(**limits)

    def __serve_build_asgi_app__(self) -> App:
        return create_app(self.models, Handles(), self.limits)


def _log_to_stderr() -> None:
    """One JSON object a line, in the worker's own file of the session's log folder."""
    logger = logging.getLogger("penstock.access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Serve turns sys.stderr into a logger of its own, with its own level and layout
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)


def gateway_app(models: Sequence[Served], limits: Limits) -> serve.Application:
    """The gateway as a Serve application."""
    return Gateway.options(  # type: ignore[attr-defined]
        name="Gateway",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1},
        # the gateway turns requests away itself, per model and by bytes held; this is the last bound
        max_ongoing_requests=1024,
        max_queued_requests=1024,
        health_check_period_s=1,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=10,
        max_constructor_retry_count=2,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    ).bind([asdict(model) for model in models], asdict(limits))
