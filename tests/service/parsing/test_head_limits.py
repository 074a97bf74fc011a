"""The limits of heads, trailers and chunks, over real sockets, in both event loops."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lookalike.service.parsing.head_limits import HEAD_BYTES, HEADERS, PARAMETERS, PATH_BYTES, BoundedProtocol
from tests.service.changing import listening
from tests.service.helpers import Connection, connected, read_answer

Scenario = Callable[[int], Awaitable[None]]

HOST = b"Host: localhost\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
FLOOD = b"a" * (1 << 16)

in_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(body or f"{len(request.url.path)} {len(request.headers)}", headers={"X-Had": str(len(body))})


async def refuse(request: Request) -> Response:
    return Response("no", 401)


def play(run: Any, scenario: Scenario) -> None:
    """Run the scenario with the port of a server."""
    methods = ["GET", "POST"]
    routes = [Route("/refuse", refuse, methods=methods), Route("/{path:path}", echo, methods=methods)]

    async def main() -> None:
        async with listening(Starlette(routes=routes)) as client:
            await scenario(client.base_url.port or 0)

    run(main())


async def flood(connection: Connection, begun: bytes, part: bytes, most: int) -> tuple[int, bytes]:
    """Send `begun`, then `part` repeatedly, up to `most` bytes or until the server closes; return its answer."""
    reader, writer = connection
    writer.write(begun)
    with suppress(ConnectionError):
        for _ in range(most // len(part)):
            writer.write(part)
            await writer.drain()
    told = await read_answer(reader)
    assert await reader.read() == b""
    return told


ENDLESS = {
    "a value": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: ", FLOOD),
    "a name": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X", FLOOD),
    "headers": (431, b"GET / HTTP/1.1\r\n" + HOST, b"X: y\r\n" * 10_000),
    "folded lines": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n", b" z\r\n" * 10_000),
    "a path": (414, b"GET /", FLOOD),
    "a query": (414, b"GET /?", FLOOD),
    "a method": (400, b"G", FLOOD),
    "a trailer": (431, CHUNKED + b"0\r\nX: ", FLOOD),
    "trailers": (431, CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000),
    "a chunk's extension": (431, CHUNKED + b"5;", FLOOD),
    "extensions": (431, CHUNKED, (b"1;" + b"x" * 1_000 + b"\r\na\r\n") * 60),
}


@in_both_loops
@pytest.mark.parametrize(("status", "begun", "part"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_refused_and_the_next_is_answered(run: Any, status: int, begun: bytes, part: bytes) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as connection:
            told, body = await flood(connection, begun, part, 20 * HEAD_BYTES)
            assert told == status
            assert b'"status":%d' % status in body
        async with connected(port) as (reader, writer):
            writer.write(b"GET /abc HTTP/1.1\r\n" + HOST + b"\r\n")
            assert await read_answer(reader) == (200, b"4 1")

    play(run, scenario)


@in_both_loops
@pytest.mark.parametrize(
    ("path", "query", "more", "status"),
    [
        (PATH_BYTES, "", 0, 200),
        (PATH_BYTES + 1, "", 0, 414),
        (1, "&".join(f"a{'b' * 20}{i}" for i in range(PARAMETERS)), 0, 200),
        (1, "&".join(f"a{'b' * 20}{i}" for i in range(PARAMETERS + 1)), 0, 414),
        (1, "x" * (HEAD_BYTES - 100), 0, 200),
        (1, "", HEADERS - 1, 200),
        (1, "", HEADERS, 431),
    ],
    ids=["a path", "too long", "parameters", "too many", "a long query", "headers", "too many headers"],
)
def test_a_head_within_its_bounds_is_answered(run: Any, path: int, query: str, more: int, status: int) -> None:
    """In one piece, or byte by byte at its end."""
    headers = b"".join(b"X-%d: y\r\n" % i for i in range(more))
    head = f"GET /{'p' * (path - 1)}?{query} HTTP/1.1\r\n".encode() + HOST + headers + b"\r\n"

    async def scenario(port: int) -> None:
        for cut in (len(head), len(head) // 2, len(head) - 1):
            async with connected(port) as (reader, writer):
                writer.write(head[:cut])
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(head[cut:])
                told, body = await read_answer(reader)
                assert told == status
                if status == 200:
                    assert body == b"%d %d" % (path, 1 + more)

    play(run, scenario)


@in_both_loops
def test_requests_that_come_together_are_answered_in_their_order(run: Any) -> None:
    """500 requests in one piece, some with bodies of each kind, cut at odd places."""
    sent, wanted = b"", []
    for i in range(500):
        body = b"%d\n" % i * (1 + i % 40)
        plain = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        half = len(body) // 2
        parts = (body[:half], body[half:]) if half else (body,)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        sent += plain if i % 2 else CHUNKED + chunks + b"0\r\nTrailer: x\r\n\r\n"
        wanted.append((200, body))

    async def scenario(port: int) -> None:
        for size in (len(sent), 70_001, 1_013):
            async with connected(port) as (reader, writer):

                async def write(writer: asyncio.StreamWriter = writer, size: int = size) -> None:
                    for start in range(0, len(sent), size):
                        writer.write(sent[start : start + size])
                        await writer.drain()

                writing = asyncio.create_task(write())
                assert [await read_answer(reader) for _ in wanted] == wanted
                await writing

    play(run, scenario)


@in_both_loops
def test_reads_a_body_in_chunks_of_one_byte(run: Any) -> None:
    body = bytes(range(256)) * 200
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)

    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            for _ in range(2):
                writer.write(CHUNKED + chunks + b"0\r\n\r\n")
                assert await read_answer(reader) == (200, body)

    play(run, scenario)


@in_both_loops
def test_a_body_that_nobody_reads_is_dropped_and_the_next_request_answered(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(CHUNKED.replace(b"/ ", b"/refuse ", 1) + b"100000\r\n" + b"x" * (1 << 20) + b"\r\n0\r\n\r\n")
            assert await read_answer(reader) == (401, b"no")
            writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert await read_answer(reader) == (200, b"1 1")

    play(run, scenario)


@in_both_loops
@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost:", b"POST /refuse HTTP/1.1\r\n"])
def test_a_client_that_is_slow_with_its_head_is_sent_away(
    run: Any, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.2)

    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(begun)
            if begun:
                assert (await read_answer(reader))[0] == 408
            assert await reader.read() == b""

    play(run, scenario)


@in_both_loops
def test_a_client_that_goes_on_after_its_answer_is_sent_away(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.2)

    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(b"POST /refuse HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\nx")
            assert await read_answer(reader) == (401, b"no")
            assert await reader.read() == b""

    play(run, scenario)


@in_both_loops
def test_sends_a_running_answer_before_the_refusal(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(b"GET /abc HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET / HTTP/1.1\r\nX: " + FLOOD + FLOOD)
            assert await read_answer(reader) == (200, b"4 1")
            assert (await read_answer(reader))[0] == 431
            assert await reader.read() == b""

    play(run, scenario)
