"""What the endpoint counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

NO_MODEL = "-"
"""The label of requests that reached no served model; names that strangers make up are not kept."""


class Metrics:
    """Counters of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "penstock_requests", "Requests answered.", ["model", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "penstock_request_seconds",
            "Seconds from a request's first line to its answer.",
            ["model"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self._registry,
        )
        self._waiting = Gauge(
            "penstock_requests_in_flight", "Requests with a model.", ["model"], registry=self._registry
        )

    def count(self, model: str, status: int, seconds: float) -> None:
        self._requests.labels(model, str(status)).inc()
        self._seconds.labels(model).observe(seconds)

    def in_flight(self, model: str, count: int) -> None:
        self._waiting.labels(model).set(count)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)
