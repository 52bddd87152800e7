"""Whether an endpoint has followed the registry to a version."""

from __future__ import annotations

import time

from penstock import registry
from penstock.client import Client
from penstock.errors import PenstockError, RunFailed
from penstock.store import Store

_WAIT_S = 300.0
_LOOK_S = 0.25


def demand_endpoint(url: str) -> None:
    """PenstockError unless an endpoint answers at `url`, and takes the key that is shown to it."""
    with Client(url, timeout=10) as client:
        client.models()


def until_served(url: str, store: Store, name: str, version: int, alias: str, key: str | None = None) -> None:
    """Returns once the endpoint at `url` answers with `name`@`version`, all requests or its share of them.

    RunFailed when an endpoint withdrew it, with the reason; PenstockError when there is no endpoint, or it
    does not serve it after five minutes.
    """
    until = time.monotonic() + _WAIT_S
    with Client(url, key=key, timeout=10) as client:
        while True:
            served = [(one["name"], one["version"]) for one in client.models()]
            standing = registry.standing(store, name)
            if version in standing.withdrawn:
                raise RunFailed(f"{name}@{version} was withdrawn: {standing.withdrawn[version]}")
            if (name, version) in served:
                return
            if time.monotonic() > until:
                raise PenstockError(
                    f"{url} does not serve {name}@{version} after {_WAIT_S:.0f} s; does it follow {alias}?"
                )
            time.sleep(_LOOK_S)
