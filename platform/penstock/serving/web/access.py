"""Who may ask: access keys, kept as hashes in the store, with a scope and a rate each.

keys.json  {"format": 1, "keys": [{"id", "scope", "sha256", "note", "rate", "created", "revoked"}]}
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Literal, get_args

from penstock.errors import PenstockError, StoreError
from penstock.serving.problems import Problem
from penstock.store import Store, current, in_bucket, lock, write_atomic

Scope = Literal["predict", "admin"]
"""What a key opens: `predict` asks models, `admin` reads the counters, too."""
_FORMAT = 1
_PREFIX = "pk_"
_LOOK_S = 0.5
_MOST = 1000


@dataclass(frozen=True)
class Key:
    """An access key as it is kept. `rate`: requests a second; 0 = what the endpoint allows anybody."""

    id: str
    scope: Scope
    sha256: str
    note: str = ""
    rate: float = 0.0
    created: str = ""
    revoked: bool = False


def path_of(store: Store) -> Path:
    return store.root / "keys.json"


def keys(store: Store) -> list[Key]:
    """Every key, revoked ones too; PenstockError when the file is damaged."""
    return _read(path_of(store))


def add(store: Store, scope: str = "predict", note: str = "", rate: float = 0.0) -> tuple[Key, str]:
    """A new key and its secret, which is kept nowhere."""
    if scope not in get_args(Scope):
        raise PenstockError(f"--scope {scope!r}: a key is for {' or '.join(get_args(Scope))}")
    secret = _PREFIX + secrets.token_urlsafe(32)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    key = Key(secrets.token_hex(4), scope, _digest(secret), note[:64], rate, today)  # type: ignore[arg-type]
    _change(store, lambda known: [*known, key])
    return key, secret


def revoke(store: Store, identity: str) -> Key:
    """The key, which opens nothing any more, within a second on every endpoint."""
    found = next((key for key in keys(store) if key.id == identity), None)
    if found is None:
        known = ", ".join(key.id for key in keys(store) if not key.revoked) or "none"
        raise PenstockError(f"no key {identity[:64]!r}; known: {known}")
    revoked = replace(found, revoked=True)
    _change(store, lambda known: [revoked if key.id == identity else key for key in known])
    return revoked


def _change(store: Store, change: Callable[[list[Key]], list[Key]]) -> None:
    path = path_of(store)
    with lock(path.with_name(".keys.lock")):
        changed = change(_read(path))
        if len(changed) > _MOST:
            raise PenstockError(f"{len(changed)} keys are too many; {_MOST} are possible")
        stored = {"format": _FORMAT, "keys": [asdict(key) for key in changed]}
        write_atomic(path, json.dumps(stored, indent=1).encode() + b"\n", mode=0o600)


def _read(path: Path) -> list[Key]:
    try:
        return _parse(current(path))
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, OSError):
        raise PenstockError(
            f"{path.name} in the store is damaged or not readable; delete it and add the keys again"
        ) from None


def _parse(raw: bytes) -> list[Key]:
    return [Key(**key) for key in json.loads(raw)["keys"]]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Keyring:
    """The keys as an endpoint asks for them: read anew when their file changes."""

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        self._path, self._clock = path, clock
        self._looked, self._stamp = -1e9, (0, 0, 0)
        self._keys: list[Key] = []
        self._far = in_bucket(path)
        if self._far:
            self._bring()
            # not while a request waits: the bucket may take its time
            threading.Thread(target=self._follow, name="keys", daemon=True).start()
        self._look()

    def key(self, authorization: str | None) -> Key:
        """The key that an Authorization header shows; Problem 401 for none, a wrong or a revoked one."""
        self._look()
        kind, _, secret = (authorization or "").partition(" ")
        shown, found = _digest(secret.strip()), None
        for key in self._keys:  # all of them, whichever it is: how long it takes tells nothing
            if hmac.compare_digest(key.sha256, shown) and not key.revoked:
                found = key
        if found is None or kind.lower() != "bearer":
            detail = "this endpoint asks for an access key: Authorization: Bearer KEY"
            raise Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
        return found

    def _look(self) -> None:
        now = self._clock()
        if self._far or now - self._looked < _LOOK_S:
            return
        self._looked = now
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._keys, self._stamp = _read(self._path), stamp
        except FileNotFoundError:
            self._keys, self._stamp = [], (0, 0, 0)
        except PenstockError:
            self._keys = []  # nobody comes in by a damaged list

    def _follow(self) -> None:
        while True:
            sleep(_LOOK_S)
            self._bring()

    def _bring(self) -> None:
        with suppress(StoreError):  # away for a moment: those that were known stay
            try:
                self._keys = _parse(current(self._path))
            except FileNotFoundError:
                self._keys = []
            except (ValueError, KeyError, TypeError):
                self._keys = []  # as above


def allowed(key: Key, scope: Scope) -> None:
    """Problem 403 unless the key is for `scope`; `admin` is for everything."""
    if key.scope not in (scope, "admin"):
        raise Problem(403, f"this key is for {key.scope}, and this path needs {scope}")
