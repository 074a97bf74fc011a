import shutil
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.app import create_app
from lookalike.service.client import AsyncClient, MalformedResponse, VersionChangedError
from lookalike.service.client.exchange import ClientOptions, embed
from lookalike.service.client.messages import Response
from lookalike.service.client.retrying import Retries
from lookalike.training.rows import open_rows
from tests.service.helpers import NPY, settings_for, to_npy

pytestmark = pytest.mark.anyio


class Changing:
    """Two real apps behind one address; `order` contains the number of the app for each next call."""

    def __init__(self, *apps: FastAPI) -> None:
        self.apps = apps
        self.order: list[int] = []
        self.requests = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.requests += 1
        await self.apps[self.order.pop(0) - 1](scope, receive, send)


@pytest.fixture(scope="module")
def versions(store_folder: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Version]:
    store = Store(Path(shutil.copytree(store_folder, tmp_path_factory.mktemp("two") / "store")))
    build(open_rows("digits:test"), tiny_run, store, target=Target(key="Flat"), device="cpu")
    return [store.open(number) for number in (1, 2)]


@pytest.fixture
async def changing(versions: list[Version], store_folder: Path) -> AsyncIterator[Changing]:
    first, second = (create_app(settings_for(store_folder), Collection(version)) for version in versions)
    async with first.router.lifespan_context(first), second.router.lifespan_context(second):
        yield Changing(first, second)


def client_of(changing: Changing) -> AsyncClient:
    return AsyncClient("http://localhost", max_rows=50, transport=httpx.ASGITransport(changing))


@pytest.mark.parametrize(
    ("order", "version"),
    [
        ([1, 1, 1, 1], 1),
        ([1, 1, 2, 2, 2, 2], 2),  # the first two are sent again
        ([2, 2, 2, 1, 1, 1, 1], 1),  # a version may be rolled back
        ([1, 2, 1, 1, 1], 1),  # only the second is sent again
        ([1, 1, 1, 2, 2, 2, 1, 1, 1, 1], 1),  # the third round
    ],
)
async def test_a_search_result_comes_from_one_version(
    changing: Changing, versions: list[Version], rows: NDArray[np.float32], order: list[int], version: int
) -> None:
    changing.order = list(order)
    async with client_of(changing) as client:
        read = await client.search(inputs=rows, limit=1)
    assert (read.version, changing.order, changing.requests) == (version, [], len(order))
    found = versions[version - 1].searcher.search(versions[version - 1].embed(rows), 1)
    names = [versions[version - 1].items.id_at(position) for position in found.positions[:, 0]]
    assert [result.hits[0].id for result in read.results] == names


async def test_embeddings_come_from_one_version(
    changing: Changing, versions: list[Version], rows: NDArray[np.float32]
) -> None:
    changing.order = [1, 2, 2, 2, 2]
    async with client_of(changing) as client:
        read = await client.embed(rows)
    assert read.version == 2
    np.testing.assert_allclose(read.embeddings, versions[1].embed(rows), atol=1e-5)


async def test_raises_if_the_version_changes_in_every_round(changing: Changing, rows: NDArray[np.float32]) -> None:
    changing.order = [1, 2] * 20
    async with client_of(changing) as client:
        with pytest.raises(VersionChangedError) as changed:
            await client.embed(rows[:100])
        assert changed.value.versions == (1, 2)
        assert changing.requests <= 6
        changing.order = [2, 1]
        assert (await client.embed(rows[:50])).version == 2  # a single part needs no second round


async def test_refuses_parts_of_different_widths() -> None:
    exchange = embed(np.zeros((2, 3)), ClientOptions(1.0, Retries(), max_rows=1))
    next(exchange)
    headers = {"content-type": NPY, "x-lookalike-version": "1"}
    exchange.send(Response(200, headers, to_npy(np.zeros((1, 2), np.float32)), "r1"))
    with pytest.raises(MalformedResponse, match="one width"):
        exchange.send(Response(200, headers, to_npy(np.zeros((1, 3), np.float32)), "r2"))
