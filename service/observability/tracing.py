"""OpenTelemetry by FastAPI's own support: a span a request, exported as the OTEL_* environment says."""

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.service.observability.logs import noted

__all__ = ["PrivateSpans", "telemetry"]

_PROBES = {"/livez", "/readyz", "/metrics"}


def telemetry(tracing: bool) -> TelemetryConfig:
    """What FastAPI records: spans where they are asked for, and never its own metrics and logs, which ours replace."""
    return {
        "tracing": tracing,
        "auto_configure": tracing,
        "metrics": False,
        "logs": False,
        "exclude": lambda scope: scope["path"] in _PROBES,
    }


class PrivateSpans:
    """Takes out of each span what FastAPI puts there of a path and a query, which may hold ids and filters."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            span = trace.get_current_span()
            span.set_attributes({"url.path": "REDACTED", "lookalike.request_id": noted(scope).request_id})
            if scope["query_string"]:
                span.set_attribute("url.query", "REDACTED")
        await self.app(scope, receive, send)
