"""Counters of the server, in Prometheus' format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)


class Metrics:
    """Counters of one server, with their own registry, so that two servers in a process do not share them."""

    def __init__(self) -> None:
        """Register everything at zero."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "exsearch_requests", "Requests by dialect and HTTP status.", ["dialect", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "exsearch_request_seconds",
            "From reading a request to its answer.",
            ["dialect"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.rejected = Counter(
            "exsearch_rejected", "Requests turned away because too many are in flight.", registry=self._registry
        )
        self.unsearchable = Counter(
            "exsearch_unsearchable_queries",
            "Queries in answered requests that were empty, too long or contained control characters.",
            registry=self._registry,
        )
        self.batch_queries = Histogram(
            "exsearch_batch_queries",
            "Queries that one call of the retriever answered.",
            buckets=[2**power for power in range(13)],
            registry=self._registry,
        )

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Export the number that `value` returns at the time of reading."""
        Gauge(name, description, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
