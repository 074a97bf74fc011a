"""What a person on call wants to see, in Prometheus's format."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Metrics", "MetricsMiddleware"]


class Metrics:
    """One registry an app, so that two apps in one process do not share their counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("lookalike_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "lookalike_request_seconds",
            "From the request's first byte to the answer's last.",
            ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.rows = Counter("lookalike_rows", "Queries and rows answered.", ["route"], registry=self.registry)
        self.version = Gauge("lookalike_version", "The version that serves.", registry=self.registry)
        self.items = Gauge("lookalike_items", "Items in that version.", registry=self.registry)


class MetricsMiddleware:
    """Counts and times each request under its route's template, so that no client can make up names."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)
