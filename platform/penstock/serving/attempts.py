"""A request's second chance: when the replica that had it died, another one gets it, once.

Predicting changes nothing, so a request may be computed twice. It is never given to a third replica: an
input that kills what answers it would walk through all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, TypeVar

from penstock.serving.calls import Lost, Unavailable

Got = TypeVar("Got")

_SHARE = 0.1  # second chances per request: a dying model must not be asked twice as often
_MOST = 64.0  # second chances that add up while nothing dies
_PAUSE_S = 0.025  # for the handle to hear of the death
_REMEMBERED = 1000
_REMEMBERED_S = 600.0


class Attempts:
    """Second chances within a budget, and the inputs that had none left."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.pass_on: Callable[[bytes], object] = lambda key: None
        """Told of each fatal input (`identity`)."""
        self._left = _MOST
        self._fatal: OrderedDict[bytes, float] = OrderedDict()  # hash of an input -> until when
        self.repeated = 0
        """Requests that were sent a second time."""

    async def call(
        self, title: str, values: Mapping[str, Any], send: Callable[[bool], Awaitable[Got]]
    ) -> Got:
        """What `send(alone)` answers, or answers at its second call, which is to travel alone: nothing else
        should go where this input goes then. `title` and `values`: the model and the
        request, by which a fatal input is known again. Unavailable when both replicas died, or there are
        too many deaths for a second chance."""
        if self._fatal and self._until(identity(title, values)):
            raise Unavailable("lost two replicas while it answered this very input", _REMEMBERED_S)
        self._left = min(_MOST, self._left + _SHARE)
        try:
            return await send(False)
        except Lost as first:
            if self._left < 1:
                raise
            self._left -= 1
            self.repeated += 1
            await asyncio.sleep(_PAUSE_S)
            try:
                return await send(True)
            except Lost as second:
                if first.working and second.working:
                    key = identity(title, values)
                    self.remember(key)
                    self.pass_on(key)
                    raise Unavailable(
                        "lost two replicas while it answered this very input", _REMEMBERED_S
                    ) from None
                raise

    def remember(self, key: bytes) -> None:
        """From now on the input (`identity`) is refused for ten minutes."""
        self._fatal[key] = self._clock() + _REMEMBERED_S
        self._fatal.move_to_end(key)
        while len(self._fatal) > _REMEMBERED:
            self._fatal.popitem(last=False)

    def _until(self, key: bytes) -> bool:
        until = self._fatal.get(key, 0.0)
        if until and until < self._clock():
            del self._fatal[key]
            return False
        return bool(until)


def identity(title: str, values: Mapping[str, Any]) -> bytes:
    """The hash of one input to one version."""
    digest = hashlib.sha256(title.encode())
    for name in sorted(values):
        value = values[name]
        raw = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
        kind = "bytes" if raw is value else "json"
        digest.update(f"\0{name}\0{kind}\0{len(raw)}\0".encode())
        digest.update(raw)
    return digest.digest()
