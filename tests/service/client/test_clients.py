import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

import lookalike.service.client as client_package
from lookalike.index.changes.collection import Collection
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.build import build
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.novelty import encode_with_errors
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.app import create_app
from lookalike.service.client import (
    AsyncClient,
    Client,
    ContentTooLarge,
    NotFound,
    ReadyResponse,
    SearchResponse,
    Unauthorized,
    Unprocessable,
    errors,
)
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.factories import ROOT
from tests.mixed import QUICK, mixed, write_csv
from tests.service.helpers import pixels_of, settings_for, to_npy
from tests.service.process import Process, running
from tests.service.scripted import Line, scripted

KEY = "a key, schlüssel"
UNLIKE = {"not": {"field": "label", "in": [1, 2, 3]}}


@pytest.fixture(scope="module")
def server(store_folder: Path) -> Iterator[Process]:
    with running("serve", "--store", str(store_folder), "--port", "0", LOOKALIKE_API_KEY=KEY) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Process) -> Iterator[Client]:
    """A client that sends parts of 64 rows, so that 200 rows are four parts."""
    with Client(server.url, api_key=KEY, max_rows=64) as client:
        yield client


def assert_found(read: SearchResponse, found: SearchResult, version: Version) -> None:
    """Assert that a response equals the version's own result: ids, scores, payloads and novelty."""
    assert read.version == version.number
    assert len(read.results) == len(found.positions)
    for result, positions in zip(read.results, found.positions.tolist(), strict=True):
        assert [hit.id for hit in result.hits] == [version.items.id_at(p) for p in positions if p >= 0]
        assert [hit.payload for hit in result.hits] == [version.items.payload_at(p) for p in positions if p >= 0]
    scores = [[hit.score for hit in result.hits] for result in read.results]
    np.testing.assert_allclose(scores, found.scores, atol=1e-5)
    np.testing.assert_allclose([result.novelty for result in read.results], found.novelty, atol=0.02)


@pytest.mark.parametrize("shape", [(200, 64), (200, 8, 8)])
def test_embeds_arrays_of_any_length_like_the_version(
    client: Client, version: Version, rows: NDArray[np.float32], shape: tuple[int, ...]
) -> None:
    read = client.embed(rows.reshape(shape).astype(np.float64))
    np.testing.assert_allclose(read.embeddings, version.embed(rows), atol=1e-5)
    assert read.embeddings.dtype == np.float32
    assert read.version == 1


def test_embeds_lists_like_arrays(client: Client, version: Version, rows: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(client.embed(rows[:70].tolist()).embeddings, version.embed(rows[:70]), atol=1e-5)


def test_inputs_search_equals_the_version_s(client: Client, version: Version, rows: NDArray[np.float32]) -> None:
    latent, errors = encode_with_errors(version.encoder, rows)
    found = version.searcher.search(in_metric(latent, version.metric), 4, errors=errors)
    assert_found(client.search(inputs=rows, limit=4), found, version)


def test_embeddings_search_equals_the_version_s(client: Client, version: Version, rows: NDArray[np.float32]) -> None:
    embeddings = version.embed(rows[:100])
    found = version.searcher.search(embeddings, 10, read_filter(UNLIKE))
    assert_found(client.search(embeddings=embeddings, filter=UNLIKE), found, version)


def test_ids_search_equals_the_version_s(client: Client, version: Version) -> None:
    ids = [version.items.id_at(position) for position in range(130)]
    assert_found(client.search(ids=ids, limit=3), version.searcher.search_items(ids, 3), version)


def test_a_long_filter_returns_the_same_hits_as_a_short_one(client: Client, rows: NDArray[np.float32]) -> None:
    short = {"field": "label", "in": [3, 8]}
    long = {"field": "label", "in": [3, 8, *range(10_000, 19_000)]}
    assert client.search(inputs=rows[:3], filter=long) == client.search(inputs=rows[:3], filter=short)


def test_returns_no_payloads_unless_requested(client: Client, rows: NDArray[np.float32]) -> None:
    for read in (client.search(inputs=rows[:2], with_payload=False), client.search(ids=["5"], with_payload=False)):
        assert [hit.payload for found in read.results for hit in found.hits if hit.payload] == []


def test_version_ready_and_live(client: Client, version: Version) -> None:
    assert client.version() == orjson.loads(orjson.dumps(version.sealed.header))
    assert client.ready() == ReadyResponse(True, 1)
    assert client.live()


@pytest.mark.parametrize("key", [None, "another"])
def test_requires_the_api_key_except_for_health_checks(server: Process, key: str | None) -> None:
    with Client(server.url, api_key=key) as client, pytest.raises(Unauthorized) as refused:
        client.version()
    assert refused.value.field == "X-API-Key"
    with Client(server.url) as client:
        assert client.live()  # a health check needs no key


def test_an_error_names_the_row_number_in_the_whole_array(client: Client, rows: NDArray[np.float32]) -> None:
    wrong = rows.copy()
    wrong[150, 3] = math.nan
    with pytest.raises(Unprocessable) as refused:
        client.embed(wrong)
    assert refused.value.field == "inputs[150]"
    assert refused.value.detail.startswith("inputs[150]: expected finite numbers")
    assert "inputs[150]" in str(refused.value)
    with pytest.raises(Unprocessable, match=r"inputs\[3\]"):
        client.embed(wrong[147:])


def test_raises_the_service_s_own_error_messages(client: Client, rows: NDArray[np.float32]) -> None:
    with pytest.raises(NotFound, match="an item's id"):
        client.search(ids=["5"] * 64 + ["nobody"])
    with pytest.raises(Unprocessable, match="inputs"):
        client.embed(rows[:0])
    with pytest.raises(Unprocessable, match="inputs"):
        client.embed([])
    with pytest.raises(Unprocessable) as refused:
        client.search(ids=["5"], limit=0)
    assert refused.value.field == "limit"
    with pytest.raises(Unprocessable, match="filter"):
        client.search(inputs=rows[:1], filter={"field": "label"})


def test_refuses_more_rows_than_the_service_allows(version: Version, store_folder: Path) -> None:
    with running("serve", "--store", str(store_folder), "--port", "0", LOOKALIKE_MAX_ROWS="50") as process:
        with Client(process.url) as client, pytest.raises(ContentTooLarge) as refused:
            client.embed(pixels_of(*map(str, range(60))))
        assert refused.value.expected == "at most 50 in a call"
        with Client(process.url, max_rows=50) as client:
            assert client.embed(pixels_of(*map(str, range(60)))).embeddings.shape == (60, 8)


def test_splits_a_search_by_the_limit_of_hits_in_one_response(server: Process, version: Version) -> None:
    ids = [version.items.id_at(position) for position in range(101)]
    with Client(server.url, api_key=KEY) as client:
        read = client.search(ids=ids, limit=1_000, with_payload=False)  # 101,000 hits
    assert [len(found.hits) for found in read.results] == [1_000] * 101


@pytest.mark.anyio
async def test_the_async_client_returns_the_same_results(
    version: Version, store_folder: Path, rows: NDArray[np.float32]
) -> None:
    app = create_app(settings_for(store_folder, api_key=KEY), Collection(version))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient("http://localhost", api_key=KEY, max_rows=64, transport=transport) as client,
    ):
        np.testing.assert_allclose((await client.embed(rows)).embeddings, version.embed(rows), atol=1e-5)
        assert_found(
            await client.search(ids=["5", "6"], limit=3), version.searcher.search_items(["5", "6"], 3), version
        )
        assert await client.version() == orjson.loads(orjson.dumps(version.sealed.header))
        assert await client.ready() == ReadyResponse(True, 1)
        assert await client.live()
        with pytest.raises(Unprocessable):
            await client.search(ids=["5"], limit=0)


@pytest.mark.anyio
async def test_sends_table_rows_with_words_for_categories(tmp_path: Path) -> None:
    columns = mixed(120)
    rows = open_rows(str(write_csv(tmp_path / "table.csv", columns)))
    train(rows, load_config(None, list(QUICK)), tmp_path / "run")
    store = Store(tmp_path / "store")
    store.promote(build(rows, tmp_path / "run", store))
    version = store.open_champion("cpu")
    names = [column.name for column in version.encoder.preprocess.table.columns]  # type: ignore[union-attr]
    table = [{name: columns[name][row] for name in names} for row in range(9)]
    app = create_app(settings_for(tmp_path / "store"), Collection(version))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient("http://localhost", max_rows=4, transport=transport) as client,
    ):
        read = await client.embed(table)
        found = await client.search(inputs=table, limit=1)
        parts = await client.embed([*table[:4], {"animal": "cat", "legs": None}])
    assert read.embeddings.shape == (9, version.encoder.latent_dim)
    assert parts.columns[4] == ("animal",)
    expected = [version.embeddings.at(version.items.positions([f"item-{row}"]))[0] for row in range(9)]
    np.testing.assert_allclose(read.embeddings, expected, atol=1e-5)
    np.testing.assert_allclose([result.hits[0].score for result in found.results], 1, atol=1e-5)


def test_reload_returns_the_version_that_serves_then() -> None:
    line = Line(200, {"Content-Type": "application/json"}, b'{"version": 2, "before": 1}')
    with scripted(line) as script, Client(script.url, api_key=KEY) as client:
        assert client.reload() == {"version": 2, "before": 1}
    assert script.paths == ["/admin/reload"]
    assert script.headers[0]["x-api-key"].encode("latin-1") == KEY.encode()


def test_keeps_the_path_of_the_base_url(version: Version) -> None:
    headers = {"Content-Type": "application/x-npy", "X-Lookalike-Version": "1"}
    with scripted(Line(200, headers, to_npy(version.embed(pixels_of("5"))))) as script:
        with Client(f"{script.url}/below/it") as client:
            client.embed(pixels_of("5"))
        assert script.paths == ["/below/it/embed"]


@pytest.mark.parametrize("url", ["", "lookalike:8000", "ftp://lookalike", "http://", "http://x:port", "http://[::1"])
def test_refuses_an_invalid_url(url: str) -> None:
    with pytest.raises(ValueError, match="url: expected http"):
        Client(url)


@pytest.mark.parametrize("key", ["", " ", "secret\r\nX-Other: 1", "secret\n", "secret\x00"])
def test_refuses_a_key_that_a_header_cannot_contain_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as refused:
        AsyncClient("http://localhost", api_key=key)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": math.nan}, {"max_rows": 0}])
def test_refuses_limits_that_allow_no_call(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a timeout"):
        Client("http://lookalike", **options)


def test_imports_neither_the_service_nor_its_dependencies() -> None:
    script = "import sys, lookalike.service.client; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "httpx", "lookalike.service.client.clients"} <= loaded
    heavy = {"torch", "faiss", "fastapi", "starlette", "pydantic", "sklearn", "pyarrow"}
    assert not {name.partition(".")[0] for name in loaded} & heavy
    ours = {name for name in loaded if name.startswith("lookalike")}
    assert {name for name in ours if not name.startswith("lookalike.service.client")} == {
        "lookalike",
        "lookalike.service",
    }


def test_the_package_exports_every_error() -> None:
    assert set(errors.__all__) - {"problem_error"} <= set(client_package.__all__)


def test_the_readme_example_runs(server: Process, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## From Python, over HTTP\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    np.save(tmp_path / "rows.npy", pixels_of("5", "6"))
    keyed = example.replace('"http://127.0.0.1:8000"', f'"{server.url}", api_key="{KEY}"')
    done = subprocess.run([sys.executable, "-c", keyed], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "(2, 8) 1"
    assert len(done.stdout.splitlines()) == 3
