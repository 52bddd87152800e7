"""Starts the endpoint, and stops it without leaving anything behind."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import Any

from penstock import cluster
from penstock.errors import ModelError, PenstockError
from penstock.serving.limits import Limits
from penstock.serving.served import Served
from penstock.store import Store

_START_S = 180.0
_POLL_S = 0.1


class Endpoint:
    """A running endpoint. `url` is where it answers; `stop` (or leaving its `with`) ends it."""

    def __init__(self, url: str, models: Sequence[str], owns_ray: bool) -> None:
        self.url = url
        self.models = list(models)
        self._owns_ray = owns_ray
        self._stopped = False

    def stop(self) -> None:
        """Lets requests finish for a moment, then ends every process of the endpoint. Harmless twice."""
        if not self._stopped:
            self._stopped = True
            _stop(self._owns_ray)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    models: Sequence[str] = (),
    *,
    store: Store,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    on_ready: Callable[[str], None] | None = None,
    block: bool = True,
) -> Endpoint:
    """Puts `models` (name, name@alias or name@version; default: everything live) behind one URL.

    Returns once every model has answered its own example and `on_ready(url)` has been told; with `block`,
    only after Ctrl-C or SIGTERM, and stopped. Port 0 takes a free one. PenstockError: nothing to serve,
    a damaged model, a port in use, an address that is not loopback.
    """
    chosen = choose(store, models)
    address = _loopback(host)
    port = _free_port(address, port)
    previous = signal.getsignal(signal.SIGTERM)
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    owns_ray = _start_ray()
    endpoint = Endpoint(url, [model.title for model in chosen], owns_ray)
    try:
        if block and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
        _start(chosen, store, limits or Limits(), address, port)
        if on_ready:
            on_ready(url)
        if block:
            threading.Event().wait()
    except KeyboardInterrupt:
        endpoint.stop()
        if not block:
            raise
    except BaseException:
        endpoint.stop()
        raise
    finally:
        if block and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)
    return endpoint


def choose(store: Store, references: Sequence[str]) -> list[Served]:
    """The models that `references` name, or all that are live; ModelError names what is missing."""
    from penstock import registry

    versions = [registry.find(store, reference) for reference in references]
    if not references:
        versions = [one for one in registry.models(store) if "live" in one.aliases]
    if not versions:
        raise ModelError("no model is live; train one, or `penstock promote NAME VERSION live`")
    served: dict[str, Served] = {}
    for version in versions:
        if version.name in served and served[version.name].version != version.version:
            raise ModelError(f"{version.name!r} is named twice; one version of a name is served at a time")
        aliases = tuple(sorted(version.aliases, key=lambda alias: (alias != "live", alias)))
        model = Served(version.name, version.version, aliases, version.card)
        if not model.example:
            raise ModelError(f"workload {model.workload.name!r} declares no example request")
        served[version.name] = model
    return list(served.values())


def _loopback(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise PenstockError(
            f"--host {host!r} is not an IP address; 127.0.0.1 is this machine alone"
        ) from None
    if not loopback:
        raise PenstockError(
            f"--host {host} can be reached from other machines, and that needs access keys, which this version "
            f"does not have yet; use 127.0.0.1, behind a proxy that asks for credentials"
        )
    return address


def _free_port(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            why = "is in use" if isinstance(error, OSError) and error.errno == 98 else "cannot be used"
            raise PenstockError(f"port {port} {why}; choose another: --port {min(port + 1, 65535)}") from None
        return int(probe.getsockname()[1])


def _start_ray() -> bool:
    """Whether Ray was started here, and is therefore ours to stop."""
    import ray

    already = ray.is_initialized()
    cluster.ensure_ray()
    with suppress(ValueError):
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        raise PenstockError(
            "Ray Serve runs on this cluster already; stop it first, or choose another RAY_ADDRESS"
        )
    return not already


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
    share = max(0.05, min(0.5, int(100 * (cluster.available_cpus() - 0.2) / len(models)) / 100))
    gpus = min(1.0, int(100 * ray.cluster_resources().get("GPU", 0) / len(models)) / 100)
    apps = {
        app_name(model.name): (model_app(str(store.root), model.title, limits, share, gpus), None)
        for model in models
    }
    targets: list[Any] = [
        ray_serve.RunTarget(target=app, name=name, route_prefix=None) for name, (app, _) in apps.items()
    ]
    targets.append(ray_serve.RunTarget(target=gateway_app(models, limits), name=GATEWAY, route_prefix="/"))
    ray_serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    _wait([target.name for target in targets])


def _wait(names: Sequence[str]) -> None:
    """Until every application runs; a model is running once it has answered its example."""
    from ray import serve as ray_serve

    until = monotonic() + _START_S
    waiting = list(names)
    while waiting and monotonic() < until:
        found = ray_serve.status().applications
        for name in waiting:
            if name in found and str(found[name].status.value) in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise ModelError(f"{name.removeprefix('model-')} cannot be served: {_cause(found[name])}")
        waiting = [name for name in waiting if name not in found or found[name].status.value != "RUNNING"]
        sleep(_POLL_S)
    if waiting:
        raise PenstockError(
            f"not ready after {_START_S:.0f} s: {', '.join(waiting)}; `penstock doctor` tells more"
        )


def _cause(application: Any) -> str:
    """The last line of the innermost traceback, without the exception's class."""
    messages = [application.message, *(one.message for one in application.deployments.values())]
    for line in reversed("\n".join(messages).splitlines()):
        kind, colon, text = line.strip().partition(": ")
        if colon and kind.endswith("Error") and " " not in kind:
            return text[:300]
    return (messages[0].splitlines() or ["unknown"])[0][:300]


def _stop(owns_ray: bool) -> None:
    from ray import serve as ray_serve

    with suppress(Exception) if owns_ray else suppress():
        # a local Ray is stopped next, with whatever could not be asked to leave
        ray_serve.shutdown()
    if owns_ray:
        cluster.shutdown()


def _quiet() -> None:
    import logging

    for name in ("ray.serve", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
