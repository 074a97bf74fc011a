"""The fast path answers the hot calls exactly like the framework: the same good and bad requests to both."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from lookalike.index.changes.collection import Collection
from lookalike.index.versions.version import Version
from lookalike.service.api.guard import FastPath
from lookalike.service.app import create_app
from lookalike.service.settings import Settings
from tests.service.api.test_guard import write_keys
from tests.service.changing import listening
from tests.service.helpers import JSON, NPY, answered, pixels_of, problem, serving, settings_for, to_npy

pytestmark = pytest.mark.anyio
ROWS = pixels_of(*map(str, range(30)))
KEY = {"X-API-Key": "may read"}
VARYING = {"x-request-id", "date"}


def remove_hot_routes(app: FastAPI) -> None:
    """Replace the fast path by the app inside it."""
    outer = app.middleware_stack
    while outer is not None:
        name = "app" if hasattr(outer, "app") else "_app"
        inner = getattr(outer, name, None)
        if isinstance(inner, FastPath):
            setattr(outer, name, inner._app)
            return
        outer = inner
    raise AssertionError("there is no such layer")


@pytest.fixture(scope="module")
def settings(store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with keys and one allowed origin."""
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", "read", "write")
    return settings_for(store_folder, keys=keys, cors_origins=("https://example.org",), max_body_bytes=100_000)


@pytest.fixture(scope="module")
async def hot(settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings, version) as client:
        yield client


@pytest.fixture(scope="module")
async def local_scale(settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings, version, remove_hot_routes) as client:
        yield client


@dataclass
class Asked:
    path: str
    content: bytes | dict[str, Any] = b""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    key: bool = True

    async def by(self, client: httpx.AsyncClient) -> httpx.Response:
        content = json.dumps(self.content).encode() if isinstance(self.content, dict) else self.content
        plain = {"Accept-Encoding": "identity", "X-Request-Id": "told"}
        headers = plain | (KEY if self.key else {}) | self.headers
        return await client.request(self.method, self.path, content=content, headers=headers)


EMBED = {"inputs": ROWS.tolist()}
SEARCH = {"inputs": ROWS[:3].tolist(), "limit": 40}
ZIPPED = {"Accept-Encoding": "gzip, deflate"}
REQUESTS = {
    "embed": Asked("/embed", EMBED),
    "embed, base64": Asked("/embed", EMBED | {"encoding_format": "base64"}),
    "embed, npy": Asked("/embed", to_npy(ROWS), headers={"Content-Type": NPY, "Accept": NPY}),
    "embed, gzip": Asked("/embed", EMBED, headers=ZIPPED),
    "embed, a short answer, gzip": Asked("/embed", {"inputs": ROWS[:1].tolist()}, headers=ZIPPED),
    "search": Asked("/search", SEARCH),
    "search, gzip": Asked("/search", SEARCH, headers=ZIPPED),
    "search, ids": Asked("/search", {"ids": ["0", "7"], "with_payload": False}),
    "search, filter": Asked("/search", {"ids": ["0"], "filter": {"field": "label", "equal": 3}}),
    "search, npy": Asked("/search?limit=3", to_npy(ROWS), headers={"Content-Type": NPY, "Accept": NPY}),
    "a query string": Asked("/search?limit=3&kind=nothing", to_npy(ROWS), headers={"Content-Type": NPY}),
    "another origin": Asked("/search", SEARCH, headers={"Origin": "https://example.org"}),
    "a foreign origin": Asked("/search", SEARCH, headers={"Origin": "https://example.com"}),
    "a preflight": Asked(
        "/search",
        method="OPTIONS",
        headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"},
        key=False,
    ),
    "no key": Asked("/search", SEARCH, key=False),
    "a wrong key": Asked("/embed", EMBED, headers={"X-API-Key": "another"}),
    "a bearer": Asked("/embed", EMBED, headers={"Authorization": "Bearer may write"}, key=False),
    "no key and no JSON": Asked("/embed", b"{", key=False),
    "no JSON": Asked("/embed", b"{"),
    "an empty body": Asked("/search", b""),
    "a deep body": Asked("/search", b"[" * 40_000 + b"]" * 40_000),
    "a wrong width": Asked("/embed", {"inputs": [[1, 2]]}),
    "an unknown field": Asked("/embed", {"inputs": [[1] * 64], "more": 1}),
    "an unknown id": Asked("/search", {"ids": ["none such"]}),
    "too many rows": Asked("/embed", {"inputs": [[0] * 64] * 301}),
    "too large a body": Asked("/embed", b" " * 100_001),
    "no number for a length": Asked("/embed", b"", headers={"Content-Length": "nine"}),
    "another content type": Asked("/embed", b"x", headers={"Content-Type": "text/plain"}),
    "a compressed body": Asked("/embed", EMBED, headers={"Content-Encoding": "gzip"}),
    "no UTF-8": Asked("/search?kind=%ff", to_npy(ROWS), headers={"Content-Type": NPY}),
    "an error, gzip": Asked("/embed", {"inputs": [[1, 2]]}, headers=ZIPPED),
    "a wrong method": Asked("/embed", method="GET"),
    "another wrong method": Asked("/search", method="DELETE"),
    "a head": Asked("/search", method="HEAD"),
    "an unknown path": Asked("/none", EMBED),
    "a trailing slash": Asked("/embed/", EMBED),
    "another case": Asked("/Embed", EMBED),
    "two slashes": Asked("//embed", EMBED),
    "an escaped letter": Asked("/%65mbed", EMBED),
    "below": Asked("/embed/more", EMBED),
    "another call": Asked("/version", method="GET"),
}


def told(answer: httpx.Response) -> dict[str, str]:
    """The headers, each once. Vary is left out of an uncompressed answer, because the fast path adds it less often."""
    names = [name for name, _ in answer.headers.multi_items()]
    assert len(set(names)) == len(names)
    left_out = VARYING if "content-encoding" in answer.headers else VARYING | {"vary"}
    return {name: value for name, value in answer.headers.items() if name not in left_out}


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
async def test_both_paths_give_the_same_answer(
    hot: httpx.AsyncClient, local_scale: httpx.AsyncClient, asked: Asked
) -> None:
    one, other = await asked.by(hot), await asked.by(local_scale)
    assert (one.status_code, one.content) == (other.status_code, other.content)
    assert told(one) == told(other)
    assert one.headers.get_list("x-request-id") == other.headers.get_list("x-request-id") == ["told"]


async def test_the_requests_cover_success_and_errors(hot: httpx.AsyncClient) -> None:
    found = {(await asked.by(hot)).status_code for asked in REQUESTS.values()}
    assert found >= {200, 400, 401, 404, 405, 413, 415, 422}


@pytest.mark.parametrize("path", ["/embed", "/search"])
async def test_a_compressed_answer_is_the_same(hot: httpx.AsyncClient, path: str) -> None:
    plain = await Asked(path, SEARCH if path == "/search" else EMBED).by(hot)
    zipped = await Asked(path, SEARCH if path == "/search" else EMBED, headers=ZIPPED).by(hot)
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in zipped.headers["vary"]
    assert int(zipped.headers["content-length"]) < len(plain.content) == int(plain.headers["content-length"])
    assert zipped.json() == plain.json()


@pytest.mark.parametrize("name", ["embed", "no key", "no JSON", "an unknown path"])
async def test_each_request_without_an_id_gets_a_new_id(hot: httpx.AsyncClient, name: str) -> None:
    asked = REQUESTS[name]
    content = json.dumps(asked.content).encode() if isinstance(asked.content, dict) else asked.content
    answers = [await hot.post(asked.path, content=content, headers=KEY if asked.key else {}) for _ in range(2)]
    names = [answer.headers.get_list("x-request-id") for answer in answers]
    assert [len(one) for one in names] == [1, 1]
    assert names[0] != names[1]


def routes_counted(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line.startswith("lookalike_requests_total{")]
    return {line.partition("{")[2].partition("}")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_both_paths_are_counted_in_the_same_way(settings: Settings, version: Version) -> None:
    counts = []
    for change in (lambda app: None, remove_hot_routes):
        async with serving(settings, version, change) as client:
            for asked in REQUESTS.values():
                await asked.by(client)
            counts.append(routes_counted((await client.get("/metrics", headers=KEY)).text))
    assert counts[0] == counts[1]
    assert counts[0]['route="/embed",status="200"'] == 7


@pytest.mark.parametrize("change", [lambda app: None, remove_hot_routes], ids=["hot", "usual"])
async def test_answers_500_for_an_unexpected_error_and_continues(
    settings: Settings, version: Version, change: Any
) -> None:
    apps: list[FastAPI] = []

    def take(app: FastAPI) -> None:
        apps.append(app)
        change(app)

    async with serving(settings, version, take) as client:
        at_work = apps[0].state.serving
        current, at_work.current = at_work.current, None
        answer = await REQUESTS["embed"].by(client)
        problem(answer, 500)
        assert answer.headers.get_list("x-request-id") == ["told"]
        at_work.current = current
        assert (await REQUESTS["embed"].by(client)).status_code == 200


async def test_answers_hot_calls_the_same_over_a_socket(
    settings: Settings, version: Version, hot: httpx.AsyncClient
) -> None:
    async with listening(create_app(settings, Collection(version))) as client:
        for name in (
            "embed",
            "embed, gzip",
            "search",
            "search, npy",
            "no key",
            "no JSON",
            "too many rows",
            "a deep body",
        ):
            one, other = await REQUESTS[name].by(client), await REQUESTS[name].by(hot)
            assert (one.status_code, one.content) == (other.status_code, other.content)
            assert one.headers.get_list("x-request-id") == ["told"]


@pytest.mark.parametrize("depth", [50, 100_000])
@pytest.mark.parametrize("path", ["/embed", "/search"])
async def test_refuses_a_deep_body_and_continues(store_folder: Path, version: Version, path: str, depth: int) -> None:
    bodies = [b"[" * depth + b"]" * depth, b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}", b'{"a":' * depth]
    async with listening(create_app(settings_for(store_folder), Collection(version))) as client:
        for body in bodies:
            answer = await client.post(path, content=body, headers={"Content-Type": JSON})
            answered(answer, answer.status_code, "")
            assert answer.status_code in {400, 422}
            assert (await client.post("/embed", json=EMBED)).status_code == 200


async def test_a_slow_reader_and_an_idle_socket_block_no_call(store_folder: Path, version: Version) -> None:
    """Clients request several megabytes without reading them, and others open a connection and send nothing."""
    rows = np.resize(ROWS, (300, 64)).tolist()
    body = json.dumps({"inputs": rows, "limit": 100}).encode()
    lines = ("POST /search HTTP/1.1", "Host: localhost", f"Content-Type: {JSON}", f"Content-Length: {len(body)}")
    head = "\r\n".join((*lines, "", "")).encode()
    async with listening(create_app(settings_for(store_folder), Collection(version))) as client:
        port = client.base_url.port
        slow = [await asyncio.open_connection("127.0.0.1", port, limit=1_024) for _ in range(4)]
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in slow:
            writer.write(head + body)
        for _, writer in idle[10:]:
            writer.write(b"POST /embed HTT")
        for _ in range(20):
            assert (await client.post("/embed", json=EMBED)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        answer = await slow[0][0].readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        whole = b""
        while length := int(await slow[0][0].readline(), 16):
            whole += (await slow[0][0].readexactly(length + 2))[:-2]
        assert len(whole) > 1 << 20
        assert len(json.loads(whole)["results"]) == 300
        for _, writer in [*slow, *idle]:
            writer.close()
