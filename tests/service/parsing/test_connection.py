"""Bodies and disconnects on real connections of uvicorn, and with another server."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http import flow_control, httptools_impl

from lookalike.service.errors import RequestError, answer_error
from lookalike.service.parsing.bodies import Budget, Share, has_arrived, is_disconnected, read_body
from tests.service.changing import holds, listening, until
from tests.service.helpers import connected, read_answer

pytestmark = pytest.mark.anyio


@dataclass
class Heard:
    """A route that records the state of its requests, and answers once `go` is set."""

    arrived: list[bool] = field(default_factory=list)
    left: list[Callable[[], bool]] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Request) -> Response:
        self.arrived.append(has_arrived(request))
        self.left.append(is_disconnected(request))
        body = await request.body()
        self.arrived.append(has_arrived(request))
        await self.go.wait()
        return Response(body)


@asynccontextmanager
async def heard() -> AsyncIterator[tuple[Heard, httpx.AsyncClient]]:
    route = Heard()

    async def endpoint(request: Request) -> Response:
        return await route(request)

    async with listening(Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])])) as client:
        yield route, client


async def seen(route: Heard, count: int) -> None:
    async def enough() -> bool:
        return len(route.arrived) >= count

    await until(enough)


def test_uses_private_parts_of_this_uvicorn_version() -> None:
    """If this fails, compare uvicorn's httptools_impl and flow_control with service.parsing, then name the version."""
    assert uvicorn.__version__ == "0.54.0"
    names = set(re.findall(r"self\.(\w+)", inspect.getsource(httptools_impl) + inspect.getsource(flow_control)))
    of_the_request = {"transport", "flow", "scope", "body", "more_body", "disconnected", "message_event"}
    of_the_connection = {"parser", "cycle", "pipeline", "url", "headers", "read_paused", "server_state"}
    assert names >= of_the_request | of_the_connection


async def test_a_body_that_came_with_its_head_has_arrived() -> None:
    async with heard() as (route, client):
        route.go.set()
        assert (await client.post("/", content=b"all of it")).content == b"all of it"
        assert (await client.get("/")).status_code == 200
        assert route.arrived == [True] * 4


async def test_a_partly_received_body_has_not_arrived() -> None:
    async with heard() as (route, client):
        route.go.set()

        async def parts() -> AsyncIterator[bytes]:
            await seen(route, 1)
            yield b"late"

        assert (await client.post("/", content=parts())).content == b"late"
        assert route.arrived == [False, True]


async def test_knows_which_client_has_disconnected() -> None:
    async with heard() as (route, client):
        port = client.base_url.port
        _, leaving = await asyncio.open_connection("127.0.0.1", port)
        leaving.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1")
        await seen(route, 2)
        staying = asyncio.create_task(client.get("/"))
        await seen(route, 4)
        assert [left() for left in route.left] == [False, False]
        leaving.close()
        await leaving.wait_closed()

        async def is_seen() -> bool:
            return route.left[0]()

        await until(is_seen)
        assert not route.left[1]()
        route.go.set()
        assert (await staying).status_code == 200


async def test_returns_false_with_another_server() -> None:
    route = Heard()
    route.go.set()

    async def endpoint(request: Request) -> Response:
        return await route(request)

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.post("/", content=b"1")).content == b"1"
    assert route.arrived == [False, False]
    assert not route.left[0]()


LARGE = np.arange(1 << 20, dtype="<u4").tobytes()
"""4 MiB; no two parts are alike."""
Scenario = Callable[[int], Awaitable[None]]


def play(run: Callable[..., None], scenario: Scenario, seconds: float = 30.0, most: int = 1 << 30) -> None:
    """Run the scenario with the port of a server that returns each body, in another event loop.

    At the end, no bytes of the budget of `most` are held.
    """
    budget = Budget(most)

    async def endpoint(request: Request) -> Response:
        share = Share(budget)
        try:
            return Response(await read_body(request, len(LARGE), seconds, share))
        except RequestError as error:
            return await answer_error(request, error)
        finally:
            share.give_back()

    async def main() -> None:
        async with listening(Starlette(routes=[Route("/", endpoint, methods=["POST"])])) as client:
            await scenario(client.base_url.port or 0)

    run(main())
    assert budget.held == 0


def posted(body: bytes, *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


in_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@in_both_loops
def test_reads_a_large_body_and_the_requests_that_follow_it(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            for sent in (LARGE, LARGE[::-1]):
                writer.write(posted(sent))
                assert await read_answer(reader) == (200, sent)
            writer.write(posted(LARGE) + posted(b"small") + posted(LARGE[::-1]) + posted(b"", "Connection: close"))
            assert [await read_answer(reader) for _ in range(4)] == [
                (200, LARGE),
                (200, b"small"),
                (200, LARGE[::-1]),
                (200, b""),
            ]
            assert await reader.read() == b""

    play(run, scenario)


@in_both_loops
def test_reads_a_large_body_in_small_parts(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            request = posted(LARGE)
            for start in range(0, len(request), 300_007):
                writer.write(request[start : start + 300_007])
                await writer.drain()
                await asyncio.sleep(0.002)
            assert await read_answer(reader) == (200, LARGE)
            writer.write(posted(b"next"))
            assert await read_answer(reader) == (200, b"next")

    play(run, scenario)


@in_both_loops
def test_answers_expect_100_continue(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            request = posted(LARGE, "Expect: 100-continue")
            writer.write(request[: -len(LARGE)])
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(LARGE)
            assert await read_answer(reader) == (200, LARGE)

    play(run, scenario)


@in_both_loops
def test_reads_a_large_body_without_a_length(run: Any) -> None:
    async def scenario(port: int) -> None:
        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(LARGE), 700_001):
                yield LARGE[start : start + 700_001]

        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", content=parts())).content == LARGE

    play(run, scenario)


@in_both_loops
def test_closes_the_connection_of_a_large_body_that_stops(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(posted(LARGE)[: len(LARGE) // 2])
            status, body = await read_answer(reader)
            assert (status, b"a part" in body) == (408, True)
            assert await reader.read() == b""
        async with connected(port) as (reader, writer):
            writer.write(posted(b"another"))
            assert await read_answer(reader) == (200, b"another")

    play(run, scenario, 0.3)


@in_both_loops
def test_large_bodies_beyond_the_budget_are_refused_while_they_arrive(run: Any) -> None:
    """The budget is 6 MiB. Half of each of two 4 MiB bodies has arrived, so a third is refused."""

    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer), connected(port) as (other, writes):
            writer.write(posted(LARGE)[: len(LARGE) // 2])
            writes.write(posted(LARGE)[: len(LARGE) // 2])
            await asyncio.sleep(0.2)
            async with connected(port) as (third, writes_third):
                writes_third.write(posted(LARGE)[:1_000])
                assert (await read_answer(third))[0] == 503
                assert await third.read() == b""
            writer.write(posted(LARGE)[len(LARGE) // 2 :])
            assert await read_answer(reader) == (200, LARGE)
            writes.write(posted(LARGE)[len(LARGE) // 2 :])
            assert await read_answer(other) == (200, LARGE)

    play(run, scenario, most=6 << 20)


@in_both_loops
def test_refuses_a_large_body_that_reaches_the_budget(run: Any) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as (reader, writer), connected(port) as (other, writes):
            for each in (writer, writes):
                each.write(posted(LARGE)[:1_000])
            await asyncio.sleep(0.1)
            for each in (writer, writes):
                each.write(posted(LARGE)[1_000:3_000_000])
                await asyncio.sleep(0.1)
            with suppress(ConnectionError):  # the answer may be lost, as the client has sent more than is read
                status, body = await read_answer(other)
                assert (status, b"of all requests together" in body) == (503, True)
            writer.write(posted(LARGE)[3_000_000:])
            assert await read_answer(reader) == (200, LARGE)

    play(run, scenario, most=5 << 20)


@in_both_loops
def test_cleans_up_after_a_client_that_disconnects_in_a_large_body(run: Any) -> None:
    async def scenario(port: int) -> None:
        before = asyncio.all_tasks()
        for ending in ("close", "abort", "write_eof"):
            async with connected(port) as (reader, writer):
                writer.write(posted(LARGE)[: len(LARGE) // 2])
                await writer.drain()
                await asyncio.sleep(0.05)
                (writer.transport.abort if ending == "abort" else getattr(writer, ending))()
                if ending == "write_eof":
                    assert await reader.read() == b""
        await until(holds(lambda: not asyncio.all_tasks() - before))

    play(run, scenario)


def test_a_large_body_is_writable_memory() -> None:
    kinds = []

    async def endpoint(request: Request) -> Response:
        body = await read_body(request, len(LARGE), 30.0, Share(Budget(len(LARGE))))
        kinds.append(np.frombuffer(body, np.uint8).flags.writeable)
        return Response(b"")

    async def main() -> None:
        async with listening(Starlette(routes=[Route("/", endpoint, methods=["POST"])])) as client:
            for body in (LARGE, b"small"):
                await client.post("/", content=body)

    uvloop.run(main())
    assert kinds == [True, False]
