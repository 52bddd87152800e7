"""The slots of an endpoint under Ray Serve: an application for each, and the switch of its gateways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from penstock import capacity
from penstock.cluster import available_cpus
from penstock.serving.limits import Limits
from penstock.serving.on_ray import switch
from penstock.serving.on_ray.deployment import Size, model_app
from penstock.serving.served import Served
from penstock.serving.versions.loading import Examined
from penstock.serving.versions.traffic import Traffic

FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
_TRIALS = 5
_TRIAL_S = 60.0


@dataclass
class ServeSlots:
    """versions.loading.Slots, as Serve applications that are never deleted but for a version that cannot run:
    what Serve keeps of each application it ever had would add up."""

    store: str
    limits: Limits
    size: Size
    switch: Any
    """The actor (penstock.serving.on_ray.switch)."""

    def load(self, app: str, model: Served) -> None:
        target = serve.RunTarget(
            target=model_app(self.store, model, self.limits, self.size), name=app, route_prefix=None
        )
        serve.run_many(
            [target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
        )

    def fault(self, app: str) -> str | None:
        found = serve.status().applications.get(app)
        if found is None:
            return None
        if found.status.value in FAILED:
            return cause(found)
        return "" if found.status.value == "RUNNING" else None

    def unload(self, app: str) -> None:
        serve.delete(app, _blocking=False)

    def examine(self, app: str) -> Examined | None:
        try:
            handle = serve.get_app_handle(app)
            seconds, able = handle.examine.remote(_TRIALS).result(timeout_s=_TRIAL_S)
        except (RayError, RayServeException, TimeoutError):
            return None
        return Examined(tuple(seconds), tuple(able))

    def turn(self, traffic: Traffic) -> None:
        """Tells the gateways how traffic goes from now on."""
        ray.get(self.switch.turn.remote(traffic.plain()))

    def known(self) -> Traffic:
        """The traffic as the switch knows it; number 0 and empty where it knows none."""
        return Traffic.of(ray.get(self.switch.known.remote()))

    def turned(self, traffic: Traffic) -> bool:
        """Whether the switch still knows it: started anew, it does not."""
        return bool(ray.get(self.switch.number.remote()) == traffic.number)

    def following(self, traffic: Traffic) -> int:
        """How many gateways go by it, or by a later one."""
        return int(ray.get(self.switch.following.remote(traffic.number)))

    def counts(self) -> Sequence[Mapping[str, Any]]:
        """What each gateway has counted."""
        return list(ray.get(self.switch.counted.remote()).values())

    def unplaced(self) -> Sequence[Mapping[str, float]]:
        """What each replica and gateway asks for that has no place yet."""
        return capacity.unplaced("ServeReplica:")

    def labelled(self, title: str) -> Sequence[bytes]:
        """The newest records that were made of feedback to a version (Arrow, as streams)."""
        found: list[bytes] = ray.get(self.switch.labelled.remote(title))
        return found

    def close(self) -> None:
        """Ends the switch."""
        ray.kill(self.switch)


def start(store: str, limits: Limits, size: Size, kept: bool = False) -> ServeSlots:
    """The slots of the endpoint that this process starts. `kept`: they outlive the process."""
    return ServeSlots(store, limits, size, switch.start(kept))


def size_of(models: int, replicas: int) -> Size:
    """What a version may take of this cluster, so that every name has room for two."""
    parts = 2 * models * replicas
    cpus = max(0.01, min(0.5, _share(available_cpus() - 0.2, parts)))
    return Size(replicas, cpus, min(1.0, _share(ray.cluster_resources().get("GPU", 0), parts)))


def _share(whole: float, parts: int) -> float:
    return int(100 * whole / parts) / 100


def cause(application: Any) -> str:
    """What the innermost exception said, without its class."""
    messages = [str(application.message), *(str(one.message) for one in application.deployments.values())]
    for line in reversed("\n".join(messages).splitlines()):
        kind, colon, text = line.strip().partition(": ")
        if colon and kind.endswith("Error") and " " not in kind:
            return text[:300]
    return messages[0].partition("\n")[0][:300] or "no reason given"
