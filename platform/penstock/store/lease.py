"""Locks that hold between machines: a small object, written on condition that nobody else wrote it meanwhile.

Its holder renews it; another process takes it over once it saw the very same object for TTL_S by its own
clock (clocks of two machines are never compared), or at once where the holder was a process of this machine
and is dead. Who lost its lease commits nothing any more: `assure` is called before each write.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.errors import StoreError
from penstock.store import process
from penstock.store.bucket import Bucket
from penstock.store.local import Busy

TTL_S = 10.0
"""How long a lease outlives its last renewal."""
LOOK_S = 0.5

Seen = tuple[str, float]
"""An ETag, and since when it is there by this process's clock."""


class Lease:
    """The lock at `path`, whose object is `key`. It guards all that lies in the same folder."""

    def __init__(self, bucket: Bucket, key: str, path: Path) -> None:
        self.bucket, self.key, self.path = bucket, key, path
        self._etag, self._pid = "", os.getpid()
        self._renewed = 0.0
        self._lost = False
        self._turn = threading.Lock()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self, blocking: bool) -> None:
        """Returns once it is held. Without `blocking` Busy is raised as soon as its holder shows that it
        lives, within TTL_S."""
        self.bucket.demand_conditions()
        seen: Seen | None = None
        while True:
            began = now()
            found = self.bucket.get(self.key)
            if found is None:
                etag = self.bucket.create(self.key, content("held"))
            else:
                holder, etag_there = facts(found[0]), found[1]
                if seen is None or seen[0] != etag_there:
                    if seen is not None and holder["state"] == "held" and not blocking:
                        raise self._busy(holder)  # it was renewed before our eyes
                    seen = (etag_there, now())
                if not (free(holder) or self._forgotten(holder)) and now() - seen[1] < TTL_S:
                    time.sleep(LOOK_S)
                    continue
                etag = self.bucket.replace(self.key, content("held"), etag_there)
            if etag is not None:
                self._etag, self._renewed = etag, began
                held.append(self)
                self._thread.start()
                return

    def release(self) -> None:
        """Gives it back, at once for everybody."""
        if os.getpid() != self._pid:
            return  # a forked child leaves the block; its parent still holds it
        self._ends.set()
        with suppress(ValueError):
            held.remove(self)
        with self._turn:
            if not self._lost:
                with suppress(StoreError):  # it runs out by itself then
                    self.bucket.replace(self.key, content("free"), self._etag)
                self._lost = True

    def assure(self) -> None:
        """StoreError unless the lease is held, for a while at least."""
        if self._lost or now() - self._renewed > 2 / 3 * TTL_S:
            self._renew()

    def _renew(self) -> None:
        with self._turn:
            if not self._lost:
                began = now()
                etag = self.bucket.replace(self.key, content("held"), self._etag)
                if etag is not None:
                    self._etag, self._renewed = etag, began
                    return
                self._lost = True
        raise StoreError(
            f"{self.bucket.url}/{self.key} was taken over by another process, here or elsewhere, "
            "while this one did not answer; nothing more is written; start the command again"
        )

    def _keep(self) -> None:
        while not self._ends.wait(TTL_S / 3):
            with suppress(StoreError):  # an outage may end; whoever writes meanwhile asks `assure`
                self._renew()
            if self._lost:
                return

    def _forgotten(self, holder: dict[str, Any]) -> bool:
        """Whether this process held it and could not give it back: the server was away."""
        mine = any(lease.key == self.key and lease.bucket is self.bucket for lease in held)
        return bool(holder["who"] == process.myself() and not mine)

    def _busy(self, holder: dict[str, Any]) -> Busy:
        pid = int(holder["who"].split("-")[1])
        where = f"process {pid} on {holder['host']}"
        return Busy(f"{self.bucket.url}/{self.key} is held by {where}; wait for it or stop it", pid)


held: list[Lease] = []
"""Those of this process."""


def guard(path: Path) -> None:
    """StoreError when a lease of this process that covers `path` was lost."""
    for lease in tuple(held):
        if path.is_relative_to(lease.path.parent):
            lease.assure()


def now() -> float:
    """Seconds that also pass while the machine sleeps: another one may take a lease over meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def content(state: str) -> bytes:
    """Never the same twice: an ETag stands for one moment of one holder."""
    told = {"state": state, "who": process.myself(), "host": os.uname().nodename, "turn": uuid.uuid4().hex}
    return json.dumps(told).encode()


def facts(raw: bytes) -> dict[str, Any]:
    try:
        told = dict(json.loads(raw))
        process.dead(told["who"])
        return {"state": "held", "host": "?", **told}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"state": "free", "who": "", "host": "?"}  # not ours: damaged


def free(holder: dict[str, Any]) -> bool:
    return holder["state"] != "held" or process.dead(holder["who"])


def taken(bucket: Bucket, key: str) -> bool:
    """Whether somebody seems to hold it. For people: only `acquire` decides."""
    found = bucket.get(key)
    if found is None or free(facts(found[0])):
        return False
    ages = [entry.age_s for entry in bucket.entries(key) if entry.key == key]
    return bool(ages) and ages[0] < 2 * TTL_S


os.register_at_fork(after_in_child=held.clear)
