"""A store whose versions give different answers, and a real server in a test's event loop."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.types import ASGIApp

from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.alignment import ALIGNMENT, save_maps
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.service.app import create_app
from lookalike.service.parsing.head_limits import BoundedProtocol
from lookalike.service.serving.serving import Serving
from tests.factories import cloud, encoder_at, made_rows
from tests.service.helpers import settings_for

__all__ = [
    "ROWS",
    "assert_of_one_version",
    "changing_store",
    "held",
    "holds",
    "listening",
    "listening_to",
    "metric",
    "point_at",
    "until",
    "wait_until",
    "with_maps",
]

ROWS: NDArray[np.float32] = cloud(20, 4)
"""(20, 4): the rows of each version."""
PATIENCE = 60.0


def changing_store(folder: Path) -> Store:
    """Version 1, the champion, embeds a row as its direction and has the items 1-0, 1-1, ...; 2 as the opposite one."""
    store = Store(folder / "store")
    for number, sign in ((1, 1), (2, -1)):
        encoder = encoder_at(folder / f"encoder-{number}", np.float32(sign) * np.eye(4, dtype=np.float32))
        rows = made_rows(ROWS, [f"{number}-{i}" for i in range(len(ROWS))])
        assert build(rows, encoder, store, target=Target(key="Flat"), device="cpu") == number
    store.promote(1)
    return store


def with_maps(store: Store, maps: dict[int, NDArray[np.float32]]) -> Collection:
    """The champion with maps from older versions, each (older dim, dim)."""
    version = store.open_champion()
    save_maps(version.sealed.folder / ALIGNMENT, maps)
    version.sealed.files[ALIGNMENT] = next(iter(version.sealed.files.values()))
    return Collection(replace(version))  # a new one, which has not read its maps yet


def assert_of_one_version(answer: dict[str, Any], rows: NDArray[np.float32]) -> None:
    """Check that the whole answer of /embed or /search is of the version that it names."""
    number = answer["version"]
    if "embeddings" in answer:
        directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(answer["embeddings"], {1: 1, 2: -1}[number] * directions, atol=1e-5)
        return
    assert len(answer["results"]) == len(rows)
    for found in answer["results"]:
        assert {hit["id"].partition("-")[0] for hit in found["hits"]} == {str(number)}


def point_at(store: Store, text: str) -> None:
    """Write the alias without any check."""
    made = store.folder / ".written-by-hand"
    made.write_text(text)
    os.replace(made, store.folder / "champion")


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition is true."""
    end = time.monotonic() + PATIENCE
    while not await ask():
        assert time.monotonic() < end, "it never came to be"
        await asyncio.sleep(0.02)


def wait_until(ask: Callable[[], bool]) -> None:
    """The same without an event loop."""
    end = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the app behind uvicorn, over a socket, with the protocol of service.server."""
    config = uvicorn.Config(app, port=0, http=BoundedProtocol, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: _is_started(server))
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        kind = {"Content-Type": "application/json"}  # unless a test sets another
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=kind, timeout=PATIENCE) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


async def _is_started(server: uvicorn.Server) -> bool:
    return server.started


@asynccontextmanager
async def listening_to(store: Store, **given: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Serving]]:
    """An HTTP client of the store's champion, over a socket."""
    app = create_app(settings_for(store.folder, **given), Collection(store.open_champion()))
    async with listening(app) as client:
        yield client, app.state.serving


@contextmanager
def held(pool: Executor) -> Iterator[None]:
    """Keep the engine's thread busy in this context."""
    released = threading.Event()
    pool.submit(released.wait)
    try:
        yield
    finally:
        released.set()


def holds(asked: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """The same for `until`."""

    async def ask() -> bool:
        return asked()

    return ask


async def metric(client: httpx.AsyncClient, name: str) -> float:
    """One value of /metrics, by its name and labels."""
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"lookalike_{name} "))
