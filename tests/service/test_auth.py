import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from index.version import Version
from service.app import create_app
from service.settings import Settings
from tests.service.helpers import all_routes, answered, serving, settings_for

pytestmark = pytest.mark.anyio
KEY = "a key, schlüssel"
OPEN = {"/livez", "/readyz", "/openapi.json"}
"""What anyone may ask: is it up, and what does it take. A new route is not one of these."""

RIGHT: dict[str, dict[bytes, bytes]] = {
    "header": {b"X-API-Key": KEY.encode()},
    "bearer": {b"Authorization": b"Bearer " + KEY.encode()},
    "bearer, written small": {b"authorization": b"bearer " + KEY.encode()},
}
WRONG: dict[str, dict[bytes, bytes]] = {
    "none": {},
    "empty": {b"X-API-Key": b""},
    "another": {b"X-API-Key": b"another key"},
    "a part": {b"X-API-Key": KEY[:-1].encode()},
    "more": {b"X-API-Key": KEY.encode() + b"l"},
    "not ASCII": {b"X-API-Key": "ключ".encode()},
    "not UTF-8": {b"X-API-Key": b"\xff\xfe"},
    "the key in Latin-1": {b"X-API-Key": KEY.encode("latin-1")},
    "another bearer": {b"Authorization": b"Bearer another"},
    "no scheme": {b"Authorization": KEY.encode()},
    "another scheme": {b"Authorization": b"Basic " + KEY.encode()},
}


@pytest.fixture(scope="module")
async def locked(store_folder: Path, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings_for(store_folder, api_key=KEY), version) as client:
        yield client


def guarded(settings: Settings, version: Version) -> list[tuple[str, str]]:
    routes = all_routes(create_app(settings, version))
    assert {path for _, path in routes} > OPEN
    return [(method, re.sub(r"\{.*?\}", "x", path)) for method, path in routes if path not in OPEN]


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
async def test_every_route_but_the_open_ones_asks_for_the_key(
    locked: httpx.AsyncClient, settings: Settings, version: Version, headers: dict[bytes, bytes]
) -> None:
    for method, path in guarded(settings, version):
        answer = await locked.request(method, path, headers=headers)
        answered(answer, 401, "X-API-Key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text


@pytest.mark.parametrize("headers", RIGHT.values(), ids=RIGHT.keys())
async def test_the_key_opens_every_route(
    locked: httpx.AsyncClient, settings: Settings, version: Version, headers: dict[bytes, bytes]
) -> None:
    for method, path in guarded(settings, version):
        content = b'{"ids": ["0"]}' if path == "/search" else b'{"inputs": [[' + b"1," * 63 + b"1]]}"
        assert (await locked.request(method, path, headers=headers, content=content)).status_code == 200


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_open_routes_ask_nothing(locked: httpx.AsyncClient, path: str) -> None:
    assert (await locked.get(path)).status_code == 200


async def test_an_unknown_path_is_unknown_without_a_key(locked: httpx.AsyncClient) -> None:
    assert (await locked.get("/none")).status_code == 404


@pytest.mark.parametrize("headers", [{}, {b"X-API-Key": b"any"}])
async def test_without_a_key_on_loopback_everyone_may(client: httpx.AsyncClient, headers: dict[bytes, bytes]) -> None:
    assert (await client.get("/version", headers=headers)).status_code == 200


async def test_the_body_of_a_stranger_is_not_read(locked: httpx.AsyncClient) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    assert (await locked.post("/search", content=body())).status_code == 401
    assert read == 0
