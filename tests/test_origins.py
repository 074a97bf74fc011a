"""The whole chain over a column far from 0 finds the same neighbors as over that column near 0, by every interface."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.compact import compact
from lookalike.index.versions.store import Store
from lookalike.retraining.plan import RetrainOptions, make_plan
from lookalike.retraining.run import retrain
from lookalike.service.client.requests import Query, put_call, search_call
from tests.lookalike.helpers import run
from tests.mixed import write_csv, write_parquet
from tests.service.helpers import NPY, call, serving, settings_for, to_npy

COUNT, LIMIT = 160, 5
START = 1_700_000_000.0
SETTINGS = ("model.hidden=[16]", "model.latent_dim=2", "fit.epochs=20", "fit.batch_size=32", "fit.device=cpu")


def table(start: float, count: int = COUNT, seed: int = 0) -> dict[str, list[Any]]:
    """Times in two alternating groups, 30 seconds apart, in steps of 1/1024 second; and noise."""
    rng = np.random.default_rng(seed)
    when = 30 * (np.arange(count) % 2) + np.round(1_024 * rng.normal(0, 1, count)) / 1_024
    return {"when": (start + when).tolist(), "noise": rng.normal(0, 1, count).astype(np.float32).tolist()}


def rows_of(columns: dict[str, list[Any]]) -> NDArray[np.float64]:
    return np.stack([columns["when"], columns["noise"]], axis=1)


def made(folder: Path, data: Path) -> Store:
    """A store built from a file with the command line."""
    at, store = folder / "run", folder / "store"
    settings = [word for line in SETTINGS for word in ("--set", line)]
    assert run("train", data, "--run", at, *settings).code == 0
    assert run("build", data, "--encoder", at, "--store", store, "--metric", "l2").out == "1\n"
    assert run("promote", 1, "--store", store).code == 0
    return Store(store)


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("near")
    return made(folder, write_parquet(folder / "rows.parquet", table(0)))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("far")
    return made(folder, write_parquet(folder / "rows.parquet", table(START)))


def found(store: Store, *arguments: object) -> list[list[str]]:
    """The hits of each query, from the command line."""
    done = run("search", *arguments, "--store", store.folder, "--limit", LIMIT)
    assert done.code == 0, done.err
    return [[hit["id"] for hit in json.loads(line)["hits"]] for line in done.out.splitlines()]


def share_of_own(hits: list[list[str]]) -> float:
    """The share of hits that are in the query's group; queries alternate between the groups."""
    return float(np.mean([int(hit) % 2 == query % 2 for query, row in enumerate(hits) for hit in row]))


def alike(one: list[list[str]], other: list[list[str]]) -> float:
    """The share of hits that are the same: not all, because the two encoders differ by rounding."""
    return float(np.mean([len({*a} & {*b}) / LIMIT for a, b in zip(one, other, strict=True)]))


def test_near_and_far_columns_find_the_same_neighbors(near: Store, far: Store, tmp_path: Path) -> None:
    more = [write_csv(tmp_path / f"{start}.csv", table(start, 40, seed=1)) for start in (0, START)]
    expected, hits = found(near, more[0]), found(far, more[1])
    assert min(share_of_own(expected), share_of_own(hits)) > 0.98
    assert alike(hits, expected) > 0.95
    origin = far.open_champion().encoder.origin
    assert origin is not None
    assert origin.tolist() == [START, 0]
    assert near.open_champion().encoder.origin is None


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: -rows,
        lambda rows: np.stack([1e9 * rows[:, 0], rows[:, 1]], axis=1).astype(np.int64),  # nanoseconds
        lambda rows: np.column_stack([rows, np.full(len(rows), 3e9 + 0.1)]),
    ],
    ids=["negative", "nanoseconds", "beside a constant"],
)
def test_arrays_far_from_0_find_neighbors_of_their_group(change: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", change(rows_of(table(START))))
    store = made(tmp_path, tmp_path / "rows.npy")
    assert share_of_own(found(store, tmp_path / "rows.npy")) > 0.98


def test_a_missing_time_is_not_treated_as_1970(tmp_path: Path) -> None:
    columns = table(START)
    columns["when"][::20] = [None] * len(columns["when"][::20])
    store = made(tmp_path, write_csv(tmp_path / "rows.csv", columns))
    known = [hits for row, hits in enumerate(found(store, tmp_path / "rows.csv")) if row % 20]
    assert np.mean([(int(hit) - int(hits[0])) % 2 == 0 for hits in known for hit in hits]) > 0.9


def test_the_doctor_names_a_column_of_float32_times(tmp_path: Path) -> None:
    data = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: np.array(values, np.float32) for name, values in table(START).items()}), data)
    done = run("train", data, "--run", tmp_path / "run", "--set", "fit.epochs=1")
    assert "resolution-lost" in done.out + done.err
    assert "column when" in done.out + done.err


@pytest.mark.anyio
async def test_http_returns_the_same_as_the_command_line(far: Store, tmp_path: Path) -> None:
    columns = table(START, 40, seed=1)
    expected, rows = found(far, write_csv(tmp_path / "a.csv", columns)), rows_of(columns)
    objects = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    async with serving(settings_for(far.folder), far.open_champion("cpu")) as client:
        for inputs in (rows.tolist(), objects):
            answer = await call(client, "/search", inputs=inputs, limit=LIMIT)
            assert [[hit["id"] for hit in one["hits"]] for one in answer["results"]] == expected
        mine = Query.of(inputs=rows, embeddings=None, ids=None, limit=LIMIT, filter=None, with_payload=True)
        for content in (to_npy(rows), search_call(mine, rows).body):
            npy = await client.post(f"/search?limit={LIMIT}", content=content, headers={"Content-Type": NPY})
            assert [[hit["id"] for hit in one["hits"]] for one in npy.json()["results"]] == expected


@pytest.fixture
def changed(far: Store, tmp_path: Path) -> Store:
    """A copy of the store with 40 more items, imported from a file."""
    columns: dict[str, list[Any]] = {"id": [f"new-{i}" for i in range(40)], **table(START, 40, seed=2)}
    store = Store(Path(shutil.copytree(far.folder, tmp_path / "store")))
    assert run("import", write_csv(tmp_path / "new.csv", columns), "--store", store.folder).code == 0
    return store


def first_of_each(store: Store, folder: Path, seed: int = 2) -> list[str]:
    """The nearest item of each new row."""
    return [hits[0] for hits in found(store, write_csv(folder / "queries.csv", table(START, 40, seed=seed)))]


def test_finds_imported_items_before_and_after_a_compaction(changed: Store, tmp_path: Path) -> None:
    assert first_of_each(changed, tmp_path) == [f"new-{i}" for i in range(40)]
    assert compact(changed) == 2
    assert first_of_each(changed, tmp_path) == [f"new-{i}" for i in range(40)]


@pytest.mark.anyio
async def test_finds_items_that_a_client_puts(changed: Store, tmp_path: Path) -> None:
    body = put_call([f"put-{i}" for i in range(40)], rows_of(table(START, 40, seed=3)), None).body
    async with serving(settings_for(changed.folder), changed.open_champion("cpu")) as client:
        answer = await client.put("/items", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
    assert first_of_each(changed, tmp_path, seed=3) == [f"put-{i}" for i in range(40)]
    assert first_of_each(changed, tmp_path) == [f"new-{i}" for i in range(40)]


def test_a_retraining_keeps_the_champion_s_origin(changed: Store, tmp_path: Path) -> None:
    report = retrain(RetrainOptions(changed, force=True, device="cpu"))
    assert report.outcome == "promoted"
    version = changed.open_champion("cpu")
    assert version.encoder.origin is not None
    assert version.encoder.origin.tolist() == [START, 0]
    assert first_of_each(changed, tmp_path) == [f"new-{i}" for i in range(40)]
    plan = make_plan(RetrainOptions(changed, device="cpu"), version, 40)  # the digest of its rows is still the same
    assert plan.collection.rows.count == COUNT + 40


NANO = 1_700_000_000_000_000_000


@pytest.mark.anyio
async def test_whole_numbers_that_float64_does_not_hold_keep_their_differences(tmp_path: Path) -> None:
    # Two groups of times, 30 ns apart: float64 rounds all of them to NANO. Files, requests, the log and a retraining
    # subtract NANO in integers.
    when = [NANO + 60 * (row % 2) + row % 7 for row in range(COUNT)]
    columns = {"when": when, "noise": np.random.default_rng(0).normal(0, 1, COUNT).tolist()}
    store = made(tmp_path, write_csv(tmp_path / "rows.csv", columns))
    encoder = store.open_champion().encoder
    assert encoder.columns[0].base == NANO
    for name in ("rows.csv", "rows.parquet"):
        path = (write_csv if name.endswith("csv") else write_parquet)(tmp_path / name, columns)
        assert share_of_own(found(store, path)) > 0.98
    row = {"when": when[1], "noise": columns["noise"][1]}
    assert found(store, "--row", json.dumps(row))[0][0] == "1"
    more = write_csv(tmp_path / "more.csv", {"id": ["new"], "when": [when[1]], "noise": [columns["noise"][1]]})
    assert run("import", more, "--store", store.folder).code == 0
    assert {*found(store, "--row", json.dumps(row))[0][:2]} == {"1", "new"}
    async with serving(settings_for(store.folder), store.open_champion("cpu")) as client:
        for inputs in ([row], [[*row.values()]]):
            answer = await call(client, "/search", inputs=inputs, limit=2, min_sequence=1)
            assert {hit["id"] for hit in answer["results"][0]["hits"]} == {"1", "new"}
    assert retrain(RetrainOptions(store, force=True, device="cpu")).outcome == "promoted"
    assert {*found(store, "--row", json.dumps(row))[0][:2]} == {"1", "new"}
