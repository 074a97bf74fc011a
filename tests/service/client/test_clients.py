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
    NotFound,
    ReadyResponse,
    SearchResponse,
    TooLarge,
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
def asking(server: Process) -> Iterator[Client]:
    """Parts of 64 rows, so that 200 are four of them."""
    with Client(server.url, api_key=KEY, max_rows=64) as client:
        yield client


def assert_found(read: SearchResponse, found: SearchResult, version: Version) -> None:
    """The ids, scores, payloads and novelty that the version itself finds."""
    assert read.version == version.number
    assert len(read.results) == len(found.positions)
    for result, positions in zip(read.results, found.positions.tolist(), strict=True):
        assert [hit.id for hit in result.hits] == [version.items.id_at(p) for p in positions if p >= 0]
        assert [hit.payload for hit in result.hits] == [version.items.payload_at(p) for p in positions if p >= 0]
    scores = [[hit.score for hit in result.hits] for result in read.results]
    np.testing.assert_allclose(scores, found.scores, atol=1e-5)
    np.testing.assert_allclose([result.novelty for result in read.results], found.novelty, atol=0.02)


@pytest.mark.parametrize("shape", [(200, 64), (200, 8, 8)])
def test_arrays_of_any_length_are_embedded_as_the_version_does(
    asking: Client, version: Version, rows: NDArray[np.float32], shape: tuple[int, ...]
) -> None:
    read = asking.embed(rows.reshape(shape).astype(np.float64))
    np.testing.assert_allclose(read.embeddings, version.embed(rows), atol=1e-5)
    assert read.embeddings.dtype == np.float32
    assert read.version == 1


def test_lists_are_embedded_as_arrays_are(asking: Client, version: Version, rows: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(asking.embed(rows[:70].tolist()).embeddings, version.embed(rows[:70]), atol=1e-5)


def test_inputs_find_what_the_version_finds(asking: Client, version: Version, rows: NDArray[np.float32]) -> None:
    latent, errors = encode_with_errors(version.encoder, rows)
    found = version.searcher.search(in_metric(latent, version.metric), 4, errors=errors)
    assert_found(asking.search(inputs=rows, limit=4), found, version)


def test_embeddings_find_what_the_version_finds(asking: Client, version: Version, rows: NDArray[np.float32]) -> None:
    embeddings = version.embed(rows[:100])
    found = version.searcher.search(embeddings, 10, read_filter(UNLIKE))
    assert_found(asking.search(embeddings=embeddings, filter=UNLIKE), found, version)


def test_ids_find_what_the_version_finds(asking: Client, version: Version) -> None:
    ids = [version.items.id_at(position) for position in range(130)]
    assert_found(asking.search(ids=ids, limit=3), version.searcher.search_items(ids, 3), version)


def test_a_long_filter_finds_the_same_as_a_short_one(asking: Client, rows: NDArray[np.float32]) -> None:
    short = {"field": "label", "in": [3, 8]}
    long = {"field": "label", "in": [3, 8, *range(10_000, 19_000)]}
    assert asking.search(inputs=rows[:3], filter=long) == asking.search(inputs=rows[:3], filter=short)


def test_payloads_come_where_they_are_asked_for(asking: Client, rows: NDArray[np.float32]) -> None:
    for read in (asking.search(inputs=rows[:2], with_payload=False), asking.search(ids=["5"], with_payload=False)):
        assert [hit.payload for found in read.results for hit in found.hits if hit.payload] == []


def test_the_rest_of_the_calls(asking: Client, version: Version) -> None:
    assert asking.version() == orjson.loads(orjson.dumps(version.manifest))
    assert asking.ready() == ReadyResponse(True, 1)
    assert asking.live()


@pytest.mark.parametrize("key", [None, "another"])
def test_without_the_key_nothing_is_answered(server: Process, key: str | None) -> None:
    with Client(server.url, api_key=key) as client, pytest.raises(Unauthorized) as refused:
        client.version()
    assert refused.value.field == "X-API-Key"
    with Client(server.url) as client:
        assert client.live()  # whoever watches it needs no key


def test_a_row_that_is_refused_has_its_number_in_the_whole(asking: Client, rows: NDArray[np.float32]) -> None:
    wrong = rows.copy()
    wrong[150, 3] = math.nan
    with pytest.raises(Unprocessable) as refused:
        asking.embed(wrong)
    assert refused.value.field == "inputs[150]"
    assert refused.value.detail.startswith("inputs[150]: expected finite numbers")
    assert "inputs[150]" in str(refused.value)
    with pytest.raises(Unprocessable, match=r"inputs\[3\]"):
        asking.embed(wrong[147:])


def test_what_the_service_refuses_is_told_in_its_words(asking: Client, rows: NDArray[np.float32]) -> None:
    with pytest.raises(NotFound, match="an item's id"):
        asking.search(ids=["5"] * 64 + ["nobody"])
    with pytest.raises(Unprocessable, match="inputs"):
        asking.embed(rows[:0])
    with pytest.raises(Unprocessable, match="inputs"):
        asking.embed([])
    with pytest.raises(Unprocessable) as refused:
        asking.search(ids=["5"], limit=0)
    assert refused.value.field == "limit"
    with pytest.raises(Unprocessable, match="filter"):
        asking.search(inputs=rows[:1], filter={"field": "label"})


def test_more_than_the_service_takes_is_refused_and_not_guessed_at(version: Version, store_folder: Path) -> None:
    with running("serve", "--store", str(store_folder), "--port", "0", LOOKALIKE_MAX_ROWS="50") as process:
        with Client(process.url) as client, pytest.raises(TooLarge) as refused:
            client.embed(pixels_of(*map(str, range(60))))
        assert refused.value.expected == "at most 50 in a call"
        with Client(process.url, max_rows=50) as client:
            assert client.embed(pixels_of(*map(str, range(60)))).embeddings.shape == (60, 8)


def test_many_hits_are_asked_for_in_parts_that_an_answer_may_have(server: Process, version: Version) -> None:
    ids = [version.items.id_at(position) for position in range(101)]
    with Client(server.url, api_key=KEY) as client:
        read = client.search(ids=ids, limit=1_000, with_payload=False)  # 101,000 hits
    assert [len(found.hits) for found in read.results] == [1_000] * 101


@pytest.mark.anyio
async def test_the_asynchronous_client_answers_the_same(
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
        assert await client.version() == orjson.loads(orjson.dumps(version.manifest))
        assert await client.ready() == ReadyResponse(True, 1)
        assert await client.live()
        with pytest.raises(Unprocessable):
            await client.search(ids=["5"], limit=0)


@pytest.mark.anyio
async def test_rows_of_a_table_go_with_their_words(tmp_path: Path) -> None:
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
    expected = [version.embeddings.at(version.items.positions([f"item-{row}"]))[0] for row in range(9)]
    np.testing.assert_allclose(read.embeddings, expected, atol=1e-5)
    np.testing.assert_allclose([result.hits[0].score for result in found.results], 1, atol=1e-5)


def test_reload_gives_the_version_that_serves_then() -> None:
    line = Line(200, {"Content-Type": "application/json"}, b'{"version": 2, "before": 1}')
    with scripted(line) as script, Client(script.url, api_key=KEY) as client:
        assert client.reload() == {"version": 2, "before": 1}
    assert script.paths == ["/admin/reload"]
    assert script.headers[0]["x-api-key"].encode("latin-1") == KEY.encode()


def test_a_service_below_a_path_is_asked_there(version: Version) -> None:
    headers = {"Content-Type": "application/x-npy", "X-Lookalike-Version": "1"}
    with scripted(Line(200, headers, to_npy(version.embed(pixels_of("5"))))) as script:
        with Client(f"{script.url}/below/it") as client:
            client.embed(pixels_of("5"))
        assert script.paths == ["/below/it/embed"]


@pytest.mark.parametrize("url", ["", "lookalike:8000", "ftp://lookalike", "http://", "http://x:port", "http://[::1"])
def test_what_is_no_url_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match="url: expected http"):
        Client(url)


@pytest.mark.parametrize("key", ["", " ", "secret\r\nX-Other: 1", "secret\n", "secret\x00"])
def test_a_key_that_no_header_has_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as refused:
        AsyncClient("http://localhost", api_key=key)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("given", [{"timeout": 0}, {"timeout": math.nan}, {"max_rows": 0}])
def test_bounds_that_let_nothing_through_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a timeout"):
        Client("http://lookalike", **given)


def test_it_loads_nothing_of_the_service_or_of_what_that_is_made_of() -> None:
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


def test_all_that_a_call_can_end_in_is_given() -> None:
    assert set(errors.__all__) - {"problem_error"} <= set(client_package.__all__)


def test_the_readme_s_example_runs(server: Process, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## From Python, over HTTP\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    np.save(tmp_path / "rows.npy", pixels_of("5", "6"))
    keyed = example.replace('"http://127.0.0.1:8000"', f'"{server.url}", api_key="{KEY}"')
    done = subprocess.run([sys.executable, "-c", keyed], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "(2, 8) 1"
    assert len(done.stdout.splitlines()) == 3
