"""The endpoint as one Serve application, where no process of ours stays: `serve deploy`, KubeRay.

What `penstock serve` does from its own process a deployment does here, the keeper, beside the gateways.
"""

# no `from __future__ import annotations`: Serve takes the builder's annotation for the class of `args`
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from penstock.serving.limits import Limits
from penstock.serving.on_ray import slots
from penstock.serving.on_ray.deployment import OPTIONS, Size
from penstock.serving.on_ray.gateway import gateway_app
from penstock.serving.on_ray.rollouts import Rollouts
from penstock.serving.served import choose
from penstock.serving.versions.loading import Event
from penstock.serving.versions.rollout import START_S
from penstock.serving.web import access
from penstock.serving.web.address import address_of
from penstock.store import Store


class Settings(BaseModel):
    """`args` of the application in serve.yaml."""

    model_config = ConfigDict(extra="forbid")
    store: str | None = Field(None, description="default: PENSTOCK_STORE of the nodes")
    models: list[str] = Field([], description="name, name@alias or name@version; default: everything live")
    replicas: int = Field(1, ge=1, le=64, description="processes for each version")
    gateways: int = Field(1, ge=1, le=64, description="processes in front of them")
    keys: bool = Field(False, description="ask for access keys on the machine's own address, too")
    cpus: float | None = Field(None, gt=0, description="logical CPUs of each replica; default: a fair share")
    gpus: float | None = Field(None, ge=0, description="GPUs of each replica, also a part of one")


@serve.deployment
class Keeper:
    """Keeps the endpoint at what the registry says. It is up once every model answers and the gateways know;
    started anew, it goes on from the traffic that the switch knows. `size`: the fields of deployment.Size."""

    def __init__(self, store: str, models: list[str], gateways: int, size: Mapping[str, Any]) -> None:
        self.app = serve.get_replica_context().app_name
        self.slots = slots.start(store, Limits(), Size(**size), kept=True)
        self.rollouts = Rollouts(Store.open(store), models, self.slots, _say)
        before = self.slots.known()
        self.rollouts.adopt(before)
        self.rollouts.start()
        try:
            self.rollouts.wait(gateways, START_S)
        except BaseException:
            self.rollouts.stop()
            if not before.ways:
                self.slots.close()
            raise

    def check_health(self) -> None:
        if not self.rollouts.runs:
            raise RuntimeError("the registry is not followed any more")

    def __del__(self) -> None:
        """Serve calls this when the replica is stopped: for another one, or with the whole application, whose
        models go then, too."""
        if not hasattr(self, "rollouts") or not self.rollouts.runs:
            return
        self.rollouts.stop()
        with suppress(RayError, RayServeException):
            found = serve.status().applications.get(self.app)
            if found is None or found.status.value == "DELETING":
                for app in self.rollouts.apps():
                    self.slots.unload(app)
                self.slots.close()


def build(args: Settings) -> serve.Application:
    """The endpoint, created as `penstock serve` creates it. ModelError: nothing to serve, a damaged model;
    PenstockError: an address that others can reach while there are no access keys."""
    store = Store.open(args.store)
    models = choose(store, args.models)
    known = any(not key.revoked for key in access.keys(store))
    # Serve has one address for all applications, and a builder is not told it
    _, local = address_of(_get_global_client().http_config.host, known, "http_options: host:")
    fair = slots.size_of(len(models), args.replicas)
    size = {
        "replicas": args.replicas,
        "cpus": fair.cpus if args.cpus is None else args.cpus,
        "gpus": fair.gpus if args.gpus is None else args.gpus,
    }
    keeper = Keeper.options(  # type: ignore[attr-defined]
        name="Keeper", num_replicas=1, ray_actor_options={"num_cpus": 0}, **OPTIONS
    ).bind(store.url, args.models, args.gateways, size)
    keys = None if local and not args.keys else store.url
    return gateway_app(Limits(), args.gateways, keys, args.replicas, keeper)


def _say(event: Event) -> None:
    """A line in the replica's log."""
    print(f"{event.model}: {event.what} {event.detail}".rstrip(), file=sys.__stderr__, flush=True)
