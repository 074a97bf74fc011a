"""A real app on a real version, and checks of its answers."""

import asyncio
import http
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from lookalike.index.changes.collection import Collection
from lookalike.index.items.filters import Filter
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.version import Version
from lookalike.service.app import create_app
from lookalike.service.parsing.decoding import SearchQuery
from lookalike.service.serving.batching import IsDisconnected, never
from lookalike.service.serving.engine import Engine
from lookalike.service.settings import Settings

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

__all__ = [
    "JSON",
    "MEMBERS",
    "NPY",
    "all_routes",
    "answered",
    "assert_nearest",
    "call",
    "from_npy",
    "pixels_of",
    "problem",
    "search",
    "search_ids",
    "serving",
    "settings_for",
    "to_npy",
    "truth_of",
]

JSON, NPY = "application/json", "application/x-npy"
MEMBERS = {"type", "title", "status", "detail", "field", "expected", "found"}


def settings_for(folder: Path, **given: Any) -> Settings:
    """Settings with small limits, so that a test can exceed them."""
    small: dict[str, Any] = {"store": folder, "device": "cpu", "threads": 1, "max_rows": 300, "max_limit": 100}
    return Settings(**small | given)


@asynccontextmanager
async def serving(
    settings: Settings, version: Version, change: Callable[[FastAPI], None] = lambda app: None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running app."""
    app = create_app(settings, Collection(version))
    change(app)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        kind = {"Content-Type": JSON}  # unless a test sets another
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=kind) as client:
            yield client


def all_routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path that the app answers."""
    found = [(route.path or "", route.methods or {"GET"}) for route in iter_route_contexts(app.routes)]
    return sorted((method, path) for path, methods in found for method in methods)


async def call(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    """POST JSON and return the JSON of a 200."""
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The members of an RFC 9457 answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = answer.json()
    assert set(members) == MEMBERS
    title = (
        http.HTTPStatus(status).phrase if status != 499 else "Client Closed Request"
    )  # defined by nginx, not by HTTP
    assert (members["status"], members["title"]) == (status, title)
    assert "Traceback" not in answer.text
    return members


def answered(answer: httpx.Response, status: int, field: str) -> None:
    """Check that the problem names the field, the expected and the found value."""
    members = problem(answer, status)
    assert members["field"].startswith(field)
    assert members["expected"]
    assert members["found"]
    assert len(answer.content) < 2_000  # a client's large value is not sent back to it


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A raw connection, for requests that no client library sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 23)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return int(head[9:12]), await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))


async def search(
    engine: Engine,
    rows: NDArray[np.float32],
    limit: int,
    *,
    encoded: bool,
    filter_: Filter | None = None,
    is_disconnected: IsDisconnected = never,
) -> SearchResult:
    """The nearest items of (n, width) raw rows, or of (n, latent) embeddings."""
    kind: Literal["inputs", "embeddings"] = "embeddings" if encoded else "inputs"
    return await engine.search(SearchQuery(kind, rows, limit, filter=filter_), is_disconnected)


async def search_ids(
    engine: Engine,
    ids: list[str],
    limit: int,
    filter_: Filter | None = None,
    is_disconnected: IsDisconnected = never,
) -> SearchResult:
    """The nearest other items of each item."""
    return await engine.search(
        SearchQuery("ids", np.empty((len(ids), 0), np.float32), limit, ids, filter_), is_disconnected
    )


def to_npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def from_npy(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def pixels_of(*ids: str) -> NDArray[np.float32]:
    """(n, 64): an item's id is its number in scikit-learn's digits."""
    return np.asarray(load_digits().data[[int(name) for name in ids]], np.float32)


def truth_of(version: Version) -> dict[str, NDArray[np.float32]]:
    """Each item's embedding, computed from its pixels."""
    ids = [version.items.id_at(i) for i in range(len(version.items))]
    return dict(zip(ids, version.embed(pixels_of(*ids)), strict=True))


def assert_nearest(
    hits: list[dict[str, Any]], query: NDArray[np.float32], truth: dict[str, NDArray[np.float32]], own: str = ""
) -> None:
    """Check the hits by brute force: the items of the highest cosine, best first, with that cosine."""
    cosines = {name: float(query @ embedding) for name, embedding in truth.items() if name != own}
    best = sorted(cosines.values(), reverse=True)[: len(hits)]
    assert len({hit["id"] for hit in hits}) == len(hits)
    np.testing.assert_allclose([hit["score"] for hit in hits], best, atol=1e-5)
    np.testing.assert_allclose([cosines[hit["id"]] for hit in hits], best, atol=1e-5)
