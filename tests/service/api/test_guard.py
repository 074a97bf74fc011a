import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.index.changes.collection import Collection
from lookalike.index.versions.version import Version
from lookalike.service.api.guard import WriteRoute
from lookalike.service.app import create_app
from lookalike.service.security.keys import KeyRing
from lookalike.service.settings import Settings
from tests.service.helpers import all_routes, answered, call, serving, settings_for

pytestmark = pytest.mark.anyio
KEY = "a key, schlüssel"
READ, WRITE = {"X-API-Key": "may read"}, {"X-API-Key": "may write"}
OPEN = {"/livez", "/readyz"}
"""The calls that need no key; a new route must not be among them."""
ONLY_READ = {("POST", "/embed"), ("POST", "/search"), ("POST", "/explain")}
"""POST calls that change nothing. Every other call except GET and HEAD needs a key that may write."""

RIGHT: dict[str, dict[bytes, bytes]] = {
    "header": {b"X-API-Key": KEY.encode()},
    "bearer": {b"Authorization": b"Bearer " + KEY.encode()},
    "bearer, written small": {b"authorization": b"bearer " + KEY.encode()},
    "from the file": {b"X-API-Key": b"may read"},
    "from the file, bearer": {b"Authorization": b"Bearer may read"},
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
    "the name": {b"X-API-Key": b"reader"},
    "the hash": {b"X-API-Key": hashlib.sha256(b"may read").hexdigest().encode()},
}


def write_keys(path: Path, *scopes: str) -> Path:
    """A key file with a key "may read" named "reader", and so on for each scope."""
    each = [
        {
            "name": {"read": "reader", "write": "writer"}[scope],
            "scope": scope,
            "sha256": hashlib.sha256(f"may {scope}".encode()).hexdigest(),
            "added": "2026-01-31T12:00:00Z",
        }
        for scope in scopes
    ]
    path.write_text(json.dumps({"format": "lookalike-keys-1", "keys": each}))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def locked_settings(store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json", "read", "write")
    return settings_for(store_folder, api_key=KEY, keys=keys)


@pytest.fixture(scope="module")
async def locked(locked_settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(locked_settings, version, add_changing_routes) as client:
        yield client


def add_changing_routes(app: FastAPI) -> None:
    """More routes that change something."""
    router = APIRouter(route_class=WriteRoute)

    @router.api_route("/changing/{name}", methods=["POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def change(request: Request) -> Response:
        return Response(request.state.key_name)

    app.include_router(router)


def guarded(settings: Settings, version: Version) -> list[tuple[str, str]]:
    app = create_app(settings, Collection(version))
    add_changing_routes(app)
    routes = all_routes(app)
    assert {path for _, path in routes} > OPEN
    return [(method, re.sub(r"\{.*?\}", "0", path)) for method, path in routes if path not in OPEN]


def body_for(path: str) -> bytes:
    bodies = {"/search": b'{"ids": ["0"]}', "/explain": b'{"ids": ["0", "1"]}'}
    return bodies.get(path, b'{"inputs": [[' + b"1," * 63 + b"1]]}")


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
async def test_every_route_but_the_open_ones_asks_for_a_key(
    locked: httpx.AsyncClient, locked_settings: Settings, version: Version, headers: dict[bytes, bytes]
) -> None:
    for method, path in guarded(locked_settings, version):
        answer = await locked.request(method, path, headers=headers)
        answered(answer, 401, "X-API-Key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text


@pytest.mark.parametrize("headers", RIGHT.values(), ids=RIGHT.keys())
async def test_a_read_key_allows_only_calls_that_change_nothing(
    locked: httpx.AsyncClient, locked_settings: Settings, version: Version, headers: dict[bytes, bytes]
) -> None:
    changing = 0
    for method, path in guarded(locked_settings, version):
        reads = method in {"GET", "HEAD"} or (method, path) in ONLY_READ
        changing += not reads
        if reads or KEY.encode() not in b"".join(headers.values()):
            answer = await locked.request(method, path, headers=headers, content=body_for(path))
            found = 404 if path.endswith("/preview") else 200  # the version has no previews
            assert answer.status_code == (found if reads else 403), (method, path)
    assert changing >= 4 + 3  # the routes of this test, and of items


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_changes_need_a_write_key(locked: httpx.AsyncClient, method: str) -> None:
    refused = await locked.request(method, "/changing/x", headers=READ)
    answered(refused, 403, "X-API-Key")
    assert (refused.json()["expected"], refused.json()["found"]) == ("a key of scope write", "reader, of scope read")
    assert (await locked.request(method, "/changing/x", headers=WRITE)).text == "writer"
    assert (await locked.request(method, "/changing/x", headers={b"X-API-Key": KEY.encode()})).text == "environment"


async def test_a_key_that_may_write_may_read(locked: httpx.AsyncClient) -> None:
    assert (await locked.get("/version", headers=WRITE)).status_code == 200


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_open_routes_ask_nothing(locked: httpx.AsyncClient, path: str) -> None:
    assert (await locked.get(path)).status_code == 200


async def test_an_unknown_path_is_unknown_without_a_key(locked: httpx.AsyncClient) -> None:
    assert (await locked.get("/none")).status_code == 404


@pytest.mark.parametrize("headers", [{}, {b"X-API-Key": b"any"}])
async def test_without_a_key_on_loopback_everyone_may(client: httpx.AsyncClient, headers: dict[bytes, bytes]) -> None:
    assert (await client.get("/version", headers=headers)).status_code == 200


async def test_a_file_without_keys_lets_nobody_in(version: Version, store_folder: Path, tmp_path: Path) -> None:
    settings = settings_for(store_folder, api_key="", keys=write_keys(tmp_path / "keys.json"))
    async with serving(settings, version) as client:
        for headers in ({}, {"X-API-Key": ""}, READ):
            answered(await client.get("/version", headers=headers), 401, "X-API-Key")


async def test_keys_change_while_it_serves(version: Version, store_folder: Path, tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.json", "read")
    now = 0.0

    def watched(app: FastAPI) -> None:
        app.state.keys = KeyRing(None, file, clock=lambda: now)

    async with serving(settings_for(store_folder, keys=file), version, watched) as client:
        assert (await client.get("/version", headers=READ)).status_code == 200
        assert (await client.get("/version", headers=WRITE)).status_code == 401
        write_keys(file, "write")
        now += 1
        assert (await client.get("/version", headers=READ)).status_code == 401
        assert (await client.get("/version", headers=WRITE)).status_code == 200


class Names:
    """Middleware that records the name of each request's key, like the log."""

    def __init__(self, app: ASGIApp, seen: list[str | None]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            self.seen.append(scope.get("state", {}).get("key_name"))


async def test_the_name_of_the_key_is_there_for_logs_and_the_key_is_not(
    locked_settings: Settings, version: Version
) -> None:
    seen: list[str | None] = []

    def watched(app: FastAPI) -> None:
        add_changing_routes(app)
        assert app.middleware_stack is not None
        app.middleware_stack = Names(app.middleware_stack, seen=seen)

    async with serving(locked_settings, version, watched) as client:
        for headers in (READ, WRITE, {}, {"X-API-Key": "wrong"}):
            await client.put("/changing/x", headers=headers)
        await client.get("/livez")
    assert seen == ["reader", "writer", None, None, None]


async def test_the_body_of_a_stranger_is_not_read(locked: httpx.AsyncClient) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    assert (await locked.post("/search", content=body())).status_code == 401
    assert (await locked.put("/changing/x", content=body(), headers=READ)).status_code == 403
    assert read == 0


ASKS = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
ALLOWED = "access-control-allow-origin"


@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost", "http://localhost:81", "null"])
async def test_without_a_key_the_page_of_another_origin_changes_nothing(client: httpx.AsyncClient, origin: str) -> None:
    """A browser sends such a request for any page, and only hides the answer from the page."""
    answered(await client.post("/admin/reload", headers={"Origin": origin}), 403, "Origin")
    assert (await client.post("/admin/reload", headers={"Origin": "http://localhost"})).status_code == 200
    assert (await client.post("/admin/reload")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", ""]
)
async def test_without_a_key_the_service_has_no_other_name_than_this_machines(
    client: httpx.AsyncClient, host: str
) -> None:
    """A page's name may resolve to this machine, so that the service has the page's own origin."""
    for method, path in (("POST", "/search"), ("GET", "/version"), ("POST", "/admin/reload")):
        answered(await client.request(method, path, json={"ids": ["0"]}, headers={"Host": host}), 403, "Host")
    for own in ("LOCALHOST:8000", "127.0.0.1", "127.1.2.3:80", "[::1]:8000"):
        assert (await client.post("/search", json={"ids": ["0"]}, headers={"Host": own})).status_code == 200


async def test_no_page_of_another_origin_is_let_in_by_default(client: httpx.AsyncClient) -> None:
    assert (await client.options("/search", headers=ASKS)).status_code == 405
    assert ALLOWED not in (await client.get("/version", headers={"Origin": "https://a.example"})).headers


@pytest.mark.parametrize(("origins", "allowed"), [(["https://a.example"], "https://a.example"), (["*"], "*")])
async def test_the_pages_of_an_origin_that_is_set_are_let_in_with_a_key(
    origins: list[str], allowed: str, version: Version, store_folder: Path
) -> None:
    settings = settings_for(store_folder, api_key=KEY, cors_origins=origins)
    async with serving(settings, version) as client:
        asked = await client.options("/search", headers=ASKS | {"Access-Control-Request-Headers": "x-api-key"})
        assert (asked.status_code, asked.headers[ALLOWED]) == (200, allowed)
        assert "access-control-allow-credentials" not in asked.headers
        refused = await client.get("/version", headers={"Origin": "https://a.example"})
        answered(refused, 401, "X-API-Key")
        assert refused.headers[ALLOWED] == allowed  # so that the page may read the error


async def test_the_pages_of_others_are_not(version: Version, store_folder: Path) -> None:
    async with serving(settings_for(store_folder, cors_origins=["https://a.example"]), version) as client:
        other = {"Origin": "https://b.example"}
        assert (await client.options("/search", headers=ASKS | other)).status_code == 400
        assert ALLOWED not in (await client.get("/version", headers=other)).headers
        assert await call(client, "/search", ids=["0"])


PAGE = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "/search"), ("POST", "/embed"), ("POST", "/admin/reload")),
        *(("PUT", "/items"), ("DELETE", "/items"), ("DELETE", "/items/0")),
    ],
)
async def test_without_a_key_a_foreign_page_calls_nothing_that_a_browser_sends_unasked(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    """Searches change only the evidence of drift, but that can start a retraining."""
    answered(await client.request(method, path, content=b"{}", headers=PAGE), 403, "Origin")
    plain = await client.request(method, path, content=b"{}", headers={"Content-Type": "text/plain"})
    answered(plain, 415, "Content-Type")
    untyped = client.build_request(method, path, content=b"{}")
    del untyped.headers["Content-Type"]
    answered(await client.send(untyped), 415, "Content-Type")


async def test_a_foreign_page_may_ask_for_what_its_browser_keeps_from_it(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD"):
        assert (await client.request(method, "/version", headers=PAGE)).status_code == 200


async def test_a_call_without_a_body_needs_no_content_type(client: httpx.AsyncClient) -> None:
    reload = client.build_request("POST", "/admin/reload")
    del reload.headers["Content-Type"]
    assert (await client.send(reload)).status_code == 200
    search = client.build_request("POST", "/search")
    del search.headers["Content-Type"]
    answered(await client.send(search), 415, "Content-Type")


@pytest.mark.parametrize(("allowed", "status"), [("*", 200), ("http://evil.example", 200), ("http://b.example", 403)])
async def test_without_a_key_the_pages_of_an_origin_that_is_set_may_search(
    allowed: str, status: int, version: Version, store_folder: Path
) -> None:
    async with serving(settings_for(store_folder, cors_origins=[allowed]), version) as client:
        assert (await client.post("/search", json={"ids": ["0"]}, headers=PAGE)).status_code == status
