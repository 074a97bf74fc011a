"""What uvicorn tells of a real connection; where another server asks, nothing is known."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.connection import has_arrived, has_left
from tests.service.changing import listening, until

pytestmark = pytest.mark.anyio


@dataclass
class Heard:
    """What the route saw; it answers once `go` is set."""

    arrived: list[bool] = field(default_factory=list)
    left: list[Callable[[], bool]] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Request) -> Response:
        self.arrived.append(has_arrived(request))
        self.left.append(has_left(request))
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


async def test_a_body_that_came_with_its_head_has_arrived() -> None:
    async with heard() as (route, client):
        route.go.set()
        assert (await client.post("/", content=b"all of it")).content == b"all of it"
        assert (await client.get("/")).status_code == 200
        assert route.arrived == [True] * 4


async def test_a_body_that_is_on_its_way_has_not_arrived() -> None:
    async with heard() as (route, client):
        route.go.set()

        async def parts() -> AsyncIterator[bytes]:
            await seen(route, 1)
            yield b"late"

        assert (await client.post("/", content=parts())).content == b"late"
        assert route.arrived == [False, True]


async def test_a_client_that_closes_has_left_and_one_that_waits_has_not() -> None:
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


async def test_of_another_server_nothing_is_known() -> None:
    route = Heard()
    route.go.set()

    async def endpoint(request: Request) -> Response:
        return await route(request)

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.post("/", content=b"1")).content == b"1"
    assert route.arrived == [False, False]
    assert not route.left[0]()
