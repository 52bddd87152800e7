"""Starts the endpoint, and stops it without leaving anything behind."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal

from penstock import cluster
from penstock.errors import PenstockError
from penstock.serving.limits import Limits
from penstock.serving.served import choose
from penstock.serving.versions.loading import Event
from penstock.serving.versions.rollout import START_S
from penstock.serving.web import access
from penstock.serving.web.address import address_of, free_port
from penstock.store import Store

if TYPE_CHECKING:
    from penstock.serving.on_ray.rollouts import Rollouts

Ingress = Literal["proxy", "haproxy"]
"""What takes connections in front of the gateways."""
_POLL_S = 0.1


class Endpoint:
    """A running endpoint. `url` is where it answers; `stop` (or leaving its `with`) ends it."""

    def __init__(self, url: str, owns_ray: bool) -> None:
        self.url = url
        self.rollouts: Rollouts | None = None
        """What keeps it at what the registry says; None until models begin to load."""
        self._owns_ray = owns_ray
        self._stopped = False

    @property
    def models(self) -> list[str]:
        """name@version of each that answers now."""
        return [way.model.title for way in self.rollouts.traffic.ways] if self.rollouts else []

    def stop(self) -> None:
        """Lets requests finish for a moment, then ends every process of the endpoint. Harmless twice."""
        if self._stopped:
            return
        self._stopped = True
        from ray import serve as ray_serve
        from ray.serve.exceptions import RayServeException

        from penstock.serving.on_ray.gateway import GATEWAY

        try:
            if self.rollouts:
                self.rollouts.stop()
            with suppress(RayServeException):  # where Serve never came up
                ray_serve.delete(GATEWAY)  # first: requests on their way still find their model
                if not self._owns_ray or cluster.elsewhere():  # Serve would outlive this process
                    ray_serve.shutdown()
                    if self.rollouts:
                        self.rollouts.slots.close()
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
    replicas: int = 1,
    gateways: int = 1,
    with_keys: bool = False,
    ingress: Ingress = "proxy",
    limits: Limits | None = None,
    on_ready: Callable[[str], None] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    block: bool = True,
) -> Endpoint:
    """Puts `models` (name, name@alias or name@version; default: everything live) behind one URL, and follows
    the registry: another version is loaded beside the one that answers, and takes its place once it has
    shown that it can.

    `replicas`: processes for each version; `gateways`: in front of them. `with_keys`: clients have to show an
    access key, as they have to wherever `host` is not this machine's own address. `ingress`: Serve's own
    proxy, or HAProxy, which is faster and has to be chosen before Ray is imported. Returns once every model
    has answered its own example and `on_ready(url)` has been told; `on_event` hears of versions that come and
    go. With `block` it stays until SIGTERM and returns the stopped endpoint, or until Ctrl-C, which it passes
    on after stopping. Port 0 takes a free one. PenstockError: nothing to serve, a damaged model, a port in
    use, an address that others can reach while there are no keys.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    chosen = choose(opened, models)
    address, local = address_of(host, any(not key.revoked for key in access.keys(opened)))
    keys = None if local and not with_keys else opened.url
    port = free_port(address, port)
    if ingress == "haproxy":
        _choose_haproxy(address)
    owns_ray = _start_ray()
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    endpoint = Endpoint(url, owns_ray)
    with _until_terminated(block):
        try:
            from penstock.serving.on_ray import slots
            from penstock.serving.on_ray.rollouts import Rollouts

            bounds = limits or Limits()
            _start_serve(bounds, address, port)
            size = slots.size_of(len(chosen), replicas)
            endpoint.rollouts = Rollouts(opened, models, slots.start(opened.url, bounds, size), on_event)
            endpoint.rollouts.start()
            _start_gateway(bounds, gateways, keys, replicas)
            endpoint.rollouts.wait(gateways, START_S)
            _until_healthy(url)
            if on_ready:
                on_ready(url)
            if block:
                threading.Event().wait()
        except BaseException:
            endpoint.stop()
            raise
    return endpoint


def _choose_haproxy(address: str) -> None:
    """Makes Serve use HAProxy, by the environment that Ray reads when it is imported."""
    from penstock.serving.on_ray import haproxy

    if "ray.serve" in sys.modules:
        raise PenstockError("HAProxy has to be chosen before Ray Serve is imported; do it in a new process")
    try:
        folder = cluster.private_folder() / f"h{os.getpid()}"
        ports = [free_port(address, 0) for _ in range(3)]
        os.environ.update(haproxy.settings(folder, ports))
    except (OSError, ImportError) as error:
        raise PenstockError(f"HAProxy cannot be used: {error}; pip install 'ray[serve]' brings it") from None


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


def http_waits(limits: Limits) -> dict[str, float]:
    """How long Serve's proxy waits, in the words of its HTTP options."""
    return {
        # beyond our own deadline, which answers with a problem
        "request_timeout_s": limits.deadline_s + limits.body_s + 20,
        "keep_alive_timeout_s": 5,
    }


def _start_serve(limits: Limits, address: str, port: int) -> None:
    from ray import serve as ray_serve

    _quiet()
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": address, "port": port, **http_waits(limits)},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    _quiet()  # starting Serve sets its loggers up anew


def _start_gateway(limits: Limits, gateways: int, keys: str | None, replicas: int) -> None:
    from ray import serve as ray_serve

    from penstock.serving.on_ray.gateway import GATEWAY, gateway_app
    from penstock.serving.on_ray.slots import FAILED, cause

    app = gateway_app(limits, gateways, keys, replicas)
    target = ray_serve.RunTarget(target=app, name=GATEWAY, route_prefix="/")
    ray_serve.run_many(
        [target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    until = monotonic() + START_S
    while monotonic() < until:
        found = ray_serve.status().applications.get(GATEWAY)
        if found and found.status.value == "RUNNING":
            return
        if found and found.status.value in FAILED:
            raise PenstockError(f"the gateway cannot start: {cause(found)}")
        sleep(_POLL_S)
    raise PenstockError(f"the gateway was not ready after {START_S:.0f} s; `penstock doctor` tells more")


def _until_healthy(url: str) -> None:
    """Until the endpoint says so itself: a gateway hears of a loaded model a moment after we know."""
    import httpx

    until = monotonic() + START_S
    while monotonic() < until:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz", trust_env=False, timeout=10).status_code == 200:
                return
        sleep(_POLL_S)
    raise PenstockError(f"{url} is not healthy after {START_S:.0f} s; `penstock doctor` tells more")


def _quiet() -> None:
    for name in ("ray.serve", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
