"""Starts the endpoint, and stops it without leaving anything behind."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import Any

from penstock import cluster, registry
from penstock.errors import ModelError, PenstockError
from penstock.serving.address import free_port, loopback
from penstock.serving.limits import Limits
from penstock.serving.served import Served
from penstock.store import Store

_START_S = 180.0
_POLL_S = 0.1
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


class Endpoint:
    """A running endpoint. `url` is where it answers; `stop` (or leaving its `with`) ends it."""

    def __init__(self, url: str, models: Sequence[str], owns_ray: bool) -> None:
        self.url = url
        self.models = list(models)
        """name@version of each."""
        self._owns_ray = owns_ray
        self._stopped = False

    def stop(self) -> None:
        """Lets requests finish for a moment, then ends every process of the endpoint. Harmless twice."""
        if self._stopped:
            return
        self._stopped = True
        from ray import serve as ray_serve
        from ray.serve.exceptions import RayServeException

        from penstock.serving.gateway import GATEWAY

        try:
            with suppress(RayServeException):  # where Serve never came up
                ray_serve.delete(GATEWAY)  # first: requests on their way still find their model
                if not self._owns_ray:
                    ray_serve.shutdown()
        finally:
            if self._owns_ray:
                cluster.shutdown()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    models: Sequence[str] = (),
    *,
    store: Store | str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    on_ready: Callable[[str], None] | None = None,
    block: bool = True,
) -> Endpoint:
    """Puts `models` (name, name@alias or name@version; default: everything live) behind one URL.

    Returns once every model has answered its own example and `on_ready(url)` has been told. With `block`
    it stays until SIGTERM and returns the stopped endpoint, or until Ctrl-C, which it passes on after
    stopping. Port 0 takes a free one. PenstockError: nothing to serve, a damaged model, a port in use, an
    address that is not loopback.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    chosen = choose(opened, models)
    address = loopback(host)
    port = free_port(address, port)
    owns_ray = _start_ray()
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    endpoint = Endpoint(url, [model.title for model in chosen], owns_ray)
    with _until_terminated(block):
        try:
            _start(chosen, opened, limits or Limits(), address, port)
            if on_ready:
                on_ready(url)
            if block:
                threading.Event().wait()
        except BaseException:
            endpoint.stop()
            raise
    return endpoint


def choose(store: Store, references: Sequence[str]) -> list[Served]:
    """The models that `references` name, or all that are live; ModelError names what is missing."""
    versions = [registry.find(store, reference) for reference in references]
    if not references:
        versions = [one for one in registry.models(store) if registry.LIVE in one.aliases]
    if not versions:
        raise ModelError("no model is live; train one, or: penstock promote NAME VERSION live")
    served: dict[str, Served] = {}
    for version in versions:
        if version.fault:
            raise ModelError(f"{version.fault}; to serve the others, name them")
        registry.verify(version)  # here, in one line, rather than by a replica that does not start
        if version.name in served and served[version.name].version != version.version:
            raise ModelError(f"two versions of {version.name!r} are named; one is served at a time")
        aliases = tuple(sorted(version.aliases, key=lambda alias: (alias != registry.LIVE, alias)))
        model = Served(version.name, version.version, aliases, version.card)
        if not model.example:
            raise ModelError(f"workload {model.workload.name!r} declares no example request")
        served[version.name] = model
    return list(served.values())


class _Terminated(BaseException):
    """SIGTERM, as an exception: whatever runs is left in order."""


@contextmanager
def _until_terminated(block: bool) -> Iterator[None]:
    """The block runs until SIGTERM, where signals can be caught and the caller waits for nothing else."""
    if not block or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except _Terminated:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _start_ray() -> bool:
    """Whether Ray was started here, and is therefore ours to stop."""
    import ray

    already = ray.is_initialized()
    cluster.ensure_ray()
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return not already
    raise PenstockError(
        "Ray Serve runs on this cluster already, with one HTTP port for all; "
        "stop it, or choose another RAY_ADDRESS"
    )


def _start(models: Sequence[Served], store: Store, limits: Limits, address: str, port: int) -> None:
    import ray
    from ray import serve as ray_serve

    from penstock.serving.deployment import model_app
    from penstock.serving.gateway import GATEWAY, app_name, gateway_app

    _quiet()
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": address,
            "port": port,
            # beyond our own deadline, which answers with a problem
            "request_timeout_s": limits.deadline_s + limits.body_s + 20,
            "keep_alive_timeout_s": 5,
        },
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    _quiet()  # starting Serve sets its loggers up anew
    cpus = max(0.05, min(0.5, _share(cluster.available_cpus() - 0.2, len(models))))
    gpus = min(1.0, _share(ray.cluster_resources().get("GPU", 0), len(models)))
    targets = [
        ray_serve.RunTarget(
            target=model_app(str(store.root), model.title, limits, cpus, gpus),
            name=app_name(model.name),
            route_prefix=None,
        )
        for model in models
    ]
    targets.append(ray_serve.RunTarget(target=gateway_app(models, limits), name=GATEWAY, route_prefix="/"))
    ray_serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    _wait([target.name for target in targets])


def _share(whole: float, parts: int) -> float:
    return int(100 * whole / parts) / 100


def _wait(names: Sequence[str]) -> None:
    """Until every application runs; a model runs once it has answered its own example."""
    from ray import serve as ray_serve

    until = monotonic() + _START_S
    waiting = list(names)
    while waiting:
        found = ray_serve.status().applications
        for name in waiting:
            if name in found and found[name].status.value in _FAILED:
                raise ModelError(f"{name.removeprefix('model-')} cannot be served: {_cause(found[name])}")
        waiting = [name for name in waiting if name not in found or found[name].status.value != "RUNNING"]
        if waiting and monotonic() > until:
            raise PenstockError(
                f"not ready after {_START_S:.0f} s: {', '.join(waiting)}; `penstock doctor` tells more"
            )
        sleep(_POLL_S)


def _cause(application: Any) -> str:
    """What the innermost exception said, without its class."""
    messages = [str(application.message), *(str(one.message) for one in application.deployments.values())]
    for line in reversed("\n".join(messages).splitlines()):
        kind, colon, text = line.strip().partition(": ")
        if colon and kind.endswith("Error") and " " not in kind:
            return text[:300]
    return messages[0].partition("\n")[0][:300] or "no reason given"


def _quiet() -> None:
    for name in ("ray.serve", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
