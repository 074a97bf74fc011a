"""OpenTelemetry by FastAPI's own support: one span for each request, exported by the OTEL_* variables."""

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.service.observability.logs import noted

__all__ = ["PrivateSpans", "telemetry"]


def telemetry(tracing: bool) -> TelemetryConfig:
    """What FastAPI records: spans if tracing is on, but no metrics and logs, which the service writes itself."""
    spans: TelemetryConfig = {"tracing": tracing, "auto_configure": tracing, "metrics": False, "logs": False}
    return {**spans, "exclude": lambda scope: scope["path"] in {"/livez", "/readyz", "/metrics"}}


class PrivateSpans:
    """Removes the path and the query from each span, because they may have ids and filters."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            span = trace.get_current_span()
            span.set_attributes({"url.path": "REDACTED", "lookalike.request_id": noted(scope).request_id})
            if scope["query_string"]:
                span.set_attribute("url.query", "REDACTED")
        await self.app(scope, receive, send)
