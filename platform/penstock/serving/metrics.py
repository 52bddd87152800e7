"""What the endpoint counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_NO_MODEL = "-@-"  # of requests that reached no served model; names that strangers make up are not kept


class Metrics:
    """Counters of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "penstock_requests", "Requests answered.", ["model", "version", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "penstock_request_seconds",
            "Seconds from a request's first line to its answer.",
            ["model", "version"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self._registry,
        )
        self._waiting = Gauge(
            "penstock_requests_in_flight",
            "Requests with a model.",
            ["model", "version"],
            registry=self._registry,
        )
        self._repeated = Gauge(
            "penstock_second_chances", "Requests sent to a second replica.", registry=self._registry
        )

    def count(self, title: str | None, status: int, seconds: float) -> None:
        """One answer of `title` (name@version), or of no model."""
        name, _, version = (title or _NO_MODEL).partition("@")
        self._requests.labels(name, version, str(status)).inc()
        self._seconds.labels(name, version).observe(seconds)

    def in_flight(self, title: str, count: int) -> None:
        name, _, version = title.partition("@")
        self._waiting.labels(name, version).set(count)

    def watch(self, repeated: Callable[[], int]) -> None:
        """`repeated`: how many requests had a second chance by now."""
        self._repeated.set_function(repeated)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)
