from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from index.version import Version
from service.settings import Settings
from tests.service.helpers import serving

pytestmark = pytest.mark.anyio
Labels = tuple[str, ...]


def fail(app: FastAPI) -> None:
    """A route with a parameter, which fails."""

    @app.get("/fail/{name}")
    async def failing(name: str) -> None:
        raise RuntimeError(name)


@pytest.fixture
async def counted(settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings, version, fail) as client:
        yield client


async def samples(client: httpx.AsyncClient, name: str) -> dict[Labels, float]:
    """Values by their labels' values; of a histogram, how many it counted."""
    text = (await client.get("/metrics")).text
    return {
        tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_requests_are_counted_by_the_routes_template_and_status(counted: httpx.AsyncClient) -> None:
    for path in ("/livez", "/livez", "/readyz", "/fail/one", "/fail/two", "/made/up", "/made-up?x=1"):
        await counted.get(path)
    await counted.get("/search")
    for body in ('{"ids": ["0"]}', '{"ids": ["none"]}', "{"):
        await counted.post("/search", content=body)
    expected = {
        ("/livez", "200"): 2,
        ("/readyz", "200"): 1,
        ("/fail/{name}", "500"): 2,
        ("none", "404"): 2,
        ("/search", "405"): 1,
        ("/search", "200"): 1,
        ("/search", "404"): 1,
        ("/search", "400"): 1,
    }
    assert await samples(counted, "lookalike_requests_total") == expected
    seconds = await samples(counted, "lookalike_request_seconds_count")
    assert seconds.pop(("/metrics",)) == 1
    by_route = {route: sum(n for (r, _), n in expected.items() if r == route) for route, _ in expected}
    assert seconds == {(route,): count for route, count in by_route.items()}


async def test_rows_are_counted_where_they_were_answered(counted: httpx.AsyncClient) -> None:
    await counted.post("/embed", json={"inputs": [[0.5] * 64] * 3})
    await counted.post("/embed", json={"inputs": [[0.5] * 63] * 5})
    await counted.post("/search", json={"ids": ["0", "1"]})
    assert await samples(counted, "lookalike_rows_total") == {("/embed",): 3, ("/search",): 2}


async def test_the_version_and_its_items_stand_there(counted: httpx.AsyncClient) -> None:
    assert await samples(counted, "lookalike_version") == {(): 1}
    assert await samples(counted, "lookalike_items") == {(): 1437}


async def test_two_apps_do_not_share_their_counts(settings: Settings, version: Version) -> None:
    async with serving(settings, version) as one, serving(settings, version) as other:
        await one.get("/livez")
        assert await samples(other, "lookalike_requests_total") == {}
