from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lookalike.index.versions.version import Version
from lookalike.service.settings import Settings
from tests.service.helpers import serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """The exporter of this process's spans; OpenTelemetry accepts only one provider."""
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    return kept


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter
    exporter.clear()


@pytest.fixture
async def traced(settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings.model_copy(update={"tracing": True}), version) as client:
        yield client


async def test_a_request_is_a_span_that_tells_its_route_and_id(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await traced.post("/search", json={"ids": ["0"]}, headers={"traceparent": parent, "X-Request-Id": "r-1"})
    (span,) = spans.get_finished_spans()
    assert span.name == "POST /search"
    assert f"{span.context.trace_id:032x}" == parent[3:35]
    told = span.attributes or {}
    assert (told["http.route"], told["http.response.status_code"]) == ("/search", 200)
    assert told["lookalike.request_id"] == "r-1"


async def test_a_span_has_no_path_and_no_query(traced: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    await traced.post('/search?filter={"field":"secret"}', json={"ids": ["0"]})
    await traced.get("/made/up/secret")
    found = spans.get_finished_spans()
    assert len(found) == 2
    assert "secret" not in "".join(span.to_json() for span in found)


async def test_probes_are_no_spans(traced: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        await traced.get(path)
    assert spans.get_finished_spans() == ()


async def test_tracing_is_off_by_default(
    settings: Settings, version: Version, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    async with serving(settings, version) as client:
        await client.post("/search", json={"ids": ["0"]})
    assert spans.get_finished_spans() == ()
