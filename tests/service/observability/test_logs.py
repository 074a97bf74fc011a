import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from lookalike.index.versions.version import Version
from lookalike.service.observability.logs import JsonFormatter, lifecycle, request_id
from lookalike.service.settings import Settings
from tests.service.helpers import serving
from tests.service.process import connect, running

SECRET = "very-secret"

TWICE = """
import logging, sys
from lookalike.service.observability.logs import configure, lifecycle, log_failure
configure(sys.argv[1])
scope = {"method": "GET", "headers": []}
try:
    raise KeyError("very-secret")
except KeyError as error:
    log_failure(scope, error)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
logging.getLogger("uvicorn.error").error("another", exc_info=ValueError("very-secret"))
logging.getLogger("uvicorn.error").warning("of uvicorn")
logging.getLogger("uvicorn.error").info("told by uvicorn")
logging.getLogger("a.library").info("told by a library")
logging.getLogger("asyncio").warning("a task failed\\n  very-secret")
lifecycle("stopped", version=3)
"""


def fail(app: FastAPI) -> None:
    """A route that fails, and a route whose caller sent a key."""

    @app.get("/fail/{name}")
    async def failing(name: str) -> None:
        raise RuntimeError(f"{SECRET} {name}")

    @app.get("/named")
    async def named(request: Request) -> None:
        request.state.key_name = "shop"


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """The log lines from level info on."""
    stream, log = io.StringIO(), logging.getLogger("lookalike")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield stream
    log.setLevel(logging.NOTSET)
    log.removeHandler(handler)


@pytest.fixture
async def client(settings: Settings, version: Version, told: io.StringIO) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings, version, fail) as client:
        yield client


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def formatted(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    given = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("a.library", logging.WARNING, "f.py", 1, message, arguments, given)


def test_a_line_has_its_time_in_utc_its_level_and_its_event() -> None:
    made = record("%s is %d", "one", 1)
    made.created = 1_700_000_000.1239
    assert formatted(made) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "warning",
        "event": "one is 1",
        "logger": "a.library",
        "pid": made.process,
    }


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("", ""),
        ("first\nsecond", "first"),
        ("Traceback (most recent call last):\n  File x\nOSError: no\n", "OSError: no"),
        ("x" * 1_000, "x" * 300),
    ],
)
def test_an_event_is_one_short_line(message: str, event: str) -> None:
    assert formatted(record(message))["event"] == event


def test_logs_the_type_place_and_causes_of_an_exception() -> None:
    def inner() -> None:
        raise KeyError(SECRET)

    try:
        try:
            inner()
        except KeyError as cause:
            raise ValueError(SECRET) from cause
    except ValueError as error:
        told = formatted(record("failed", error=error))
    assert told["error"] == "ValueError"
    place = re.escape(__file__) + r":\d+"
    expected = [
        "KeyError",
        f"{place} test_logs_the_type_.*",
        f"{place} inner",
        "ValueError",
        f"{place} test_logs_the_type_.*",
    ]
    assert len(told["trace"]) == len(expected)
    assert all(re.fullmatch(one, line) for one, line in zip(expected, told["trace"], strict=True))
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize("given", [b"a", b"x" * 128, b"A.b_c-9"])
def test_a_plain_id_is_kept(given: bytes) -> None:
    assert request_id([(b"host", b"x"), (b"x-request-id", given)]) == given.decode()


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"a\n", b"\xe9", b"a/b", b'"'])
def test_replaces_any_other_request_id(given: bytes) -> None:
    assert re.fullmatch("[0-9a-f]{32}", request_id([(b"x-request-id", given)]))


@pytest.mark.anyio
async def test_a_request_is_one_line(client: httpx.AsyncClient, told: io.StringIO) -> None:
    await client.post("/search?x=1", json={"ids": ["0", "1"]}, headers={"X-Request-Id": "r-1"})
    await client.get("/made/up")
    await client.get("/named")
    found, none, named = (line for line in lines(told.getvalue()) if line["event"] == "request")
    assert found.pop("ms") > 0
    assert {key: found[key] for key in list(found)[5:]} == {
        "request_id": "r-1",
        "method": "POST",
        "route": "/search",
        "status": 200,
        "rows": 2,
        "version": 1,
        "key": None,
        "client": "127.0.0.1",
    }
    assert (none["route"], none["status"], none["version"], none["level"]) == ("none", 404, None, "info")
    assert named["key"] == "shop"


@pytest.mark.anyio
async def test_a_failure_is_told_with_the_id_that_its_client_got(client: httpx.AsyncClient, told: io.StringIO) -> None:
    answer = await client.get("/fail/now")
    failure, request = lines(told.getvalue())[-2:]
    assert (request["status"], request["level"]) == (500, "warning")
    assert (failure["level"], failure["error"], failure["route"]) == ("error", "RuntimeError", "/fail/{name}")
    assert failure["trace"][-1].endswith(" failing")
    assert request["request_id"] == failure["request_id"] == answer.headers["x-request-id"]


@pytest.mark.anyio
async def test_nothing_that_a_client_sent_is_told(client: httpx.AsyncClient, told: io.StringIO) -> None:
    condition = {"field": SECRET, "equal": SECRET}
    headers = {"X-API-Key": SECRET, "User-Agent": SECRET, "X-Request-Id": f"{SECRET}/"}
    for body in ({"ids": [SECRET]}, {"ids": ["0"], "filter": condition}, {SECRET: 1}, {"inputs": [[SECRET]]}):
        await client.post(f"/search?{SECRET}={SECRET}", json=body, headers=headers)
    await client.get(f"/fail/{SECRET}")
    await client.get(f"/{SECRET}")
    events = [line["event"] for line in lines(told.getvalue())]
    assert (events.count("request"), events.count("unhandled error")) == (6, 1)
    assert SECRET not in told.getvalue()


@pytest.mark.anyio
async def test_without_its_level_a_request_is_not_told(client: httpx.AsyncClient, told: io.StringIO) -> None:
    logging.getLogger("lookalike").setLevel(logging.WARNING)
    before = told.getvalue()
    await client.get("/livez")
    assert told.getvalue() == before


def test_the_lifecycle_has_its_fields(told: io.StringIO) -> None:
    lifecycle("version changed", version=3, seconds=0.5)
    (line,) = lines(told.getvalue())
    assert (line["event"], line["version"], line["seconds"]) == ("version changed", 3, 0.5)


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("info", ["unhandled error", "another", "of uvicorn", "told by uvicorn", "a task failed", "stopped"]),
        ("warning", ["unhandled error", "another", "of uvicorn", "a task failed", "stopped"]),
        ("error", ["unhandled error", "another", "stopped"]),
    ],
)
def test_all_logs_have_one_format_and_a_failure_is_logged_once(level: str, events: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", TWICE, level], capture_output=True, text=True, check=True)
    assert [line["event"] for line in lines(done.stderr)] == events
    assert SECRET not in done.stderr


def test_a_server_writes_nothing_but_lines_of_json(store_folder: Path) -> None:
    serve = ("serve", "--store", str(store_folder), "--port", "0")
    with running(*serve, LOOKALIKE_LOG_LEVEL="info", LOOKALIKE_DEVICE="cpu") as server:
        assert httpx.get(f"{server.url}/livez", headers={"X-Request-Id": "r-2"}).headers["x-request-id"] == "r-2"
        with connect(server.address, "no HTTP at all\n\n") as connection:
            while connection.recv(65_536):
                pass
        code, errors = server.stop()
    assert code == 0
    told = {line["event"]: line for line in lines(errors)}
    assert {"started", "request", "Invalid HTTP request received.", "stopped"} <= set(told)
    assert (told["request"]["route"], told["request"]["request_id"]) == ("/livez", "r-2")
