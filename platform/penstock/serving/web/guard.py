"""Who passes: keys where they are asked for, and no more requests from one client than its rate."""

from __future__ import annotations

from penstock.serving.web.access import Key, Keyring, Scope, allowed
from penstock.serving.web.door import Scope as Connection
from penstock.serving.web.rates import Rates

_OPEN = ("/healthz", "/v2/health/live", "/v2/health/ready", "/")
_ADMIN = ("/metrics",)


class Guard:
    """`keyring`: None where nobody has to show a key, as on this machine's own address. `rate`: requests a
    second of one client, where its key does not say otherwise."""

    def __init__(self, keyring: Keyring | None, rate: float) -> None:
        self._keyring, self._rate, self._rates = keyring, rate, Rates()

    def admit(self, connection: Connection) -> None:
        """Problem 401, 403 or 429; otherwise the connection's state knows its key's id as `client`."""
        path = connection["path"]
        if path in _OPEN or path.startswith("/static/"):
            return
        key = self._key(connection, "admin" if path in _ADMIN else "predict")
        client = key.id if key else str((connection.get("client") or ("",))[0])
        connection["state"]["client"] = key.id if key else None
        if connection.get("method", "GET") not in ("GET", "HEAD"):
            self._rates.take(client, (key.rate if key else 0) or self._rate)

    def _key(self, connection: Connection, scope: Scope) -> Key | None:
        if self._keyring is None:
            return None
        shown = dict(connection["headers"]).get(b"authorization")
        key = self._keyring.key(shown.decode("latin-1") if shown else None)
        allowed(key, scope)
        return key
