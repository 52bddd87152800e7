"""How many requests a second one client may send: a token bucket for each."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from penstock.serving.problems import Problem

_BURST_S = 2.0  # what a client that waited may send at once, in seconds of its rate
_MOST = 10_000


class Rates:
    """Buckets by client; the one that was away the longest is forgotten first, and would be full by then."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def take(self, client: str, rate: float) -> None:
        """Problem 429, which says when to come again, where `client` sends more than `rate` a second."""
        now, most = self._clock(), max(1.0, _BURST_S * rate)
        tokens, when = self._buckets.pop(client, (most, now))
        tokens = min(most, tokens + (now - when) * rate)
        enough = tokens >= 1
        self._buckets[client] = (tokens - enough, now)
        while len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        if not enough:
            later = math.ceil((1 - tokens) / rate)
            raise Problem(
                429, f"more than {rate:g} requests a second; try again", headers={"Retry-After": str(later)}
            )
