"""The whole chain over a table of mixed columns: CSV and Parquet, gaps, unknown words, by command line and by HTTP."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.versions.build import build
from lookalike.index.versions.embed import embed_to_npy
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import load_config
from lookalike.training.errors import ResumeError
from lookalike.training.evaluation.judge import NoiseTest, add_noise, score_encoder, score_pca, score_raw
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample
from lookalike.training.tables.columns import Column, to_json_rows
from tests.lookalike.helpers import refused, run
from tests.mixed import INPUTS, QUICK, mixed, write_both, write_csv, write_parquet
from tests.service.helpers import NPY, answered, call, from_npy, serving, settings_for, to_npy

COUNT = 240
ASKED: dict[str, list[Any]] = {
    "price": [21.0, None],
    "planet": ["mars", "earth"],
    "always": [8, None],
    "colour": ["gold", "transparent"],
    "animal": ["fish", None],
    "legs": [0, 4],
    "size": ["large", "small"],
    "tame": [False, None],
    "weight": [8.1, None],
}
"""Two rows in a different order of columns, with an extra column, and words that no training row had."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as CSV and Parquet, a run over the CSV, and a store with the version built from it."""
    folder = tmp_path_factory.mktemp("mixed")
    table, _ = write_both(folder, mixed(COUNT))
    settings = [word for line in QUICK for word in ("--set", line)]
    assert run("train", table, "--run", folder / "run", *settings).code == 0
    assert run("build", table, "--encoder", folder / "run", "--store", folder / "store").out == "1\n"
    assert run("promote", 1, "--store", folder / "store").code == 0
    return folder


@pytest.fixture(scope="module")
def version(folder: Path) -> Version:
    return Store(folder / "store").open_champion("cpu")


def embedded(path: Path, version: Version, to: Path) -> NDArray[np.float32]:
    embed_to_npy(open_rows(str(path)), version.encoder, version.metric, to / "e.npy")
    embeddings: NDArray[np.float32] = np.load(to / "e.npy", allow_pickle=False)
    return embeddings


def test_the_encoder_and_the_manifest_contain_the_columns(version: Version) -> None:
    columns = version.encoder.columns
    assert [column.name for column in columns] == INPUTS
    assert columns[2] == Column("colour", "categorical", ("black", "brown", "gold"))
    assert version.encoder.input_shape == (8,)
    described = {one["name"]: one for one in version.manifest.columns}
    assert [described[name]["missing"] > 0 for name in INPUTS] == [name in {"colour", "price"} for name in INPUTS]
    assert (described["tame"]["kind"], described["planet"]["values"]) == ("boolean", ["earth"])


def test_embeds_csv_and_parquet_alike_in_any_order_of_columns(folder: Path, version: Version, tmp_path: Path) -> None:
    table = mixed(COUNT)
    shuffled = {name: table[name] for name in np.random.default_rng(1).permutation(list(table))}
    expected = embedded(folder / "table.csv", version, tmp_path)
    assert np.isfinite(expected).all()
    for path in (folder / "table.parquet", *write_both(tmp_path, shuffled)):
        assert np.array_equal(embedded(path, version, tmp_path), expected)


def test_embeddings_do_not_depend_on_the_order_of_columns(tmp_path: Path) -> None:
    """Property: in any order of columns, the embeddings of one encoder are the same to the last bit."""
    table = mixed(60)
    run_at = tmp_path / "run"
    path = write_csv(tmp_path / "a.csv", table)
    encoder = train(open_rows(str(path)), load_config(None, [*QUICK, "fit.epochs=2"]), run_at).encoder
    rows, _ = read_sample(open_rows(str(path)), 60, 0)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(list(table))
        other = write_parquet(tmp_path / "b.parquet", {name: table[name] for name in order})
        again, _ = read_sample(open_rows(str(other), spec=encoder.inputs), 60, 0)
        assert np.array_equal(encoder.encode(again), encoder.encode(rows))


def test_the_command_line_searches_and_embeds_table_rows(folder: Path, tmp_path: Path) -> None:
    store = folder / "store"
    for path in write_both(tmp_path, ASKED, "asked"):
        assert run("embed", path, "--store", store, "--out", tmp_path / "e.npy").code == 0
        assert np.isfinite(np.load(tmp_path / "e.npy", allow_pickle=False)).all()
        first, second = map(json.loads, run("search", path, "--store", store, "--limit", 5).out.splitlines())
        assert {hit["payload"]["animal"] for hit in first["hits"]} == {"fish"}
        assert len(second["hits"]) == 5
        assert set(first["hits"][0]["payload"]) == {*INPUTS, "note", "label"}


def test_searches_with_a_single_row_of_words(folder: Path, tmp_path: Path) -> None:
    one = {name: values[:1] for name, values in mixed(3).items() if name in INPUTS}
    done = run("search", write_csv(tmp_path / "one.csv", one), "--store", folder / "store", "--limit", 1)
    assert json.loads(done.out)["hits"][0]["payload"]["animal"] == "cat"


def test_the_command_line_names_the_wrong_column(folder: Path, tmp_path: Path) -> None:
    without = {name: values for name, values in ASKED.items() if name != "legs"}
    done = run("search", write_csv(tmp_path / "a.csv", without), "--store", folder / "store")
    refused(done, "column legs")
    words = ASKED | {"legs": ["four", "none"]}
    refused(run("search", write_parquet(tmp_path / "a.parquet", words), "--store", folder / "store"), "column legs")
    refused(run("evaluate", 1, "--store", folder / "store", "--queries", tmp_path / "a.csv"), "column legs")


def test_evaluates_with_rows_that_have_missing_values(folder: Path, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "more.parquet", mixed(90, seed=1))
    done = run("evaluate", 1, "--store", folder / "store", "--queries", path)
    assert done.code == 0, done.err
    precision = next(line for line in done.out.splitlines() if "precision" in line)
    assert float(precision.split()[-2]) > 0.8


@pytest.mark.anyio
async def test_http_returns_the_same_as_the_command_line(folder: Path, version: Version, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "asked.parquet", ASKED)
    expected = embedded(path, version, tmp_path)
    objects = [{name: ASKED[name][row] for name in INPUTS} for row in range(2)]
    lists = [[row[name] for name in INPUTS] for row in objects]
    codes, _ = read_sample(open_rows(str(path), spec=version.encoder.inputs), 2, 0)
    async with serving(settings_for(folder / "store"), version) as client:
        for inputs in (objects, lists, [objects[0], lists[1]], to_json_rows(codes, version.encoder.columns)):
            reply = await call(client, "/embed", inputs=inputs)
            np.testing.assert_allclose(reply["embeddings"], expected, atol=1e-6)
            if isinstance(inputs[0], dict) and isinstance(inputs[1], dict):
                # The second row lacks price, always, animal, tame and weight; no training row had the color.
                assert reply["columns"] == [
                    ["weight", "animal", "colour", "always", "legs", "tame", "price"],
                    ["planet", "legs"],
                ]
        answer = await client.post("/embed", content=to_npy(codes), headers={"Content-Type": NPY, "Accept": NPY})
        np.testing.assert_allclose(from_npy(answer.content), expected, atol=1e-6)
        found = await call(client, "/search", inputs=[{"price": None, **objects[0]}], limit=3)
        assert {hit["payload"]["animal"] for hit in found["results"][0]["hits"]} == {"fish"}
        assert (await client.get("/readyz")).status_code == 200
        columns = (await client.get("/version")).json()["columns"]
        assert [column["name"] for column in columns] == INPUTS


@pytest.mark.anyio
async def test_http_names_the_wrong_row_and_column(folder: Path, version: Version) -> None:
    right = {name: ASKED[name][0] for name in INPUTS}
    async with serving(settings_for(folder / "store"), version) as client:
        for wrong, field in (
            (right | {"legs": "four"}, "inputs[1].legs"),
            (right | {"size": 3}, "inputs[1]"),
            ({}, "inputs[1]"),
            (list(right.values())[1:], "inputs[1]"),
            ({**right, "animal": 3}, "inputs[1].animal"),
        ):
            for route in ("/embed", "/search"):
                answered(await client.post(route, json={"inputs": [right, wrong]}), 422, field)
        headers = {"Content-Type": NPY}
        odd = np.array([[0, 99, 0, 0, 0, 0, 0, 0]], np.float32)
        answered(await client.post("/embed", content=to_npy(odd), headers=headers), 422, "inputs[0].animal")


@pytest.mark.anyio
async def test_a_part_of_a_row_finds_items_that_agree_in_it(folder: Path, version: Version) -> None:
    parts: list[dict[str, Any]] = [
        {"animal": "cat"},
        {"animal": "dog", "price": None},
        {"animal": "fish", "tame": False},
    ]
    names = [["animal"], ["animal"], ["animal", "tame"]]
    whole = {name: ASKED[name][0] for name in INPUTS} | {"planet": "earth"}
    async with serving(settings_for(folder / "store"), version) as client:
        found = await call(client, "/search", inputs=[*parts, whole], limit=10)
        *results, last = found["results"]
        for part, result, used in zip(parts, results, names, strict=True):
            assert result["columns"] == used
            animals = [hit["payload"]["animal"] for hit in result["hits"]]
            assert animals.count(part["animal"]) >= 9  # a third of the items would agree by chance
        assert "columns" not in last
        cold = {"field": "price", "range": {"gte": 5, "lt": 12}}
        found = await call(client, "/search", inputs=parts[:1], limit=5, filter=cold)
        prices = [hit["payload"]["price"] for hit in found["results"][0]["hits"]]
        assert all(isinstance(price, float) and 5 <= price < 12 for price in prices)
        assert len(prices) == 5


def test_the_command_line_searches_with_a_part_of_a_row(folder: Path, tmp_path: Path) -> None:
    store = folder / "store"
    done = run("search", "--store", store, "--row", '{"animal": "cat"}', "--limit", 3)
    assert done.code == 0, done.err
    line = json.loads(done.out)
    assert (line["query"], line["columns"]) == ("0", ["animal"])
    assert {hit["payload"]["animal"] for hit in line["hits"]} == {"cat"}
    (tmp_path / "rows.json").write_text('[{"animal": "cat"}, {"animal": "fish", "legs": 0}]', encoding="utf-8")
    lines = run("search", "--store", store, "--row", tmp_path / "rows.json", "--limit", 3).out.splitlines()
    assert [json.loads(line)["columns"] for line in lines] == [["animal"], ["animal", "legs"]]
    for row, message in (
        ('{"size": 3}', "--row: expected names of columns: weight, animal"),
        ('[{"animal": "cat"}, {"legs": "four"}]', "--row[1].legs: expected a number"),
        ('{"animal": "horse"}', "--row: expected a known value in at least one column, found only missing values"),
        ('{"legs": NaN}', "--row: expected a row as a JSON object"),
        ("{", "--row: expected a row as a JSON object"),
        ("no-file.json", "found 'no-file.json'"),
    ):
        refused(run("search", "--store", store, "--row", row), message)
    refused(run("search", "--store", store, "--row", "{}", "--id", "item-1"), "one of DATA, --id and --row")


@pytest.mark.anyio
async def test_refuses_a_query_of_unknown_values_over_http(folder: Path, version: Version) -> None:
    async with serving(settings_for(folder / "store"), version) as client:
        answer = await client.post("/search", json={"inputs": [{"animal": "cat"}, {"animal": "horse"}]})
    answered(answer, 422, "inputs[1]")


def test_hits_are_printed_as_they_are_written(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"city": ["Köln", "Zürich"] * 20, "x": list(range(40))}
    data = write_csv(tmp_path / "cities.csv", table)
    settings = [word for line in QUICK for word in ("--set", line)]
    assert run("train", data, "--run", tmp_path / "run", *settings).code == 0
    assert run("build", data, "--encoder", tmp_path / "run", "--store", tmp_path / "store").code == 0
    assert run("promote", 1, "--store", tmp_path / "store").code == 0
    assert '"city": "Köln"' in run("search", "--store", tmp_path / "store", "--row", '{"city": "Köln"}').out
    done = run("import", data, "--store", tmp_path / "store")
    assert "40 replaced an item" in done.out
    assert "cities.csv has no column of ids: a row's number is its id" in done.err


def test_an_import_needs_the_column_of_ids_that_the_settings_name(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"sku": [f"s{row}" for row in range(40)], "x": list(range(40)), "y": list(range(40))}
    data = write_csv(tmp_path / "a.csv", table)
    settings = [word for line in (*QUICK, "data.id=sku") for word in ("--set", line)]
    assert run("train", data, "--run", tmp_path / "run", *settings).code == 0
    assert run("build", data, "--encoder", tmp_path / "run", "--store", tmp_path / "store").code == 0
    assert run("promote", 1, "--store", tmp_path / "store").code == 0
    other = write_csv(tmp_path / "b.csv", {"x": [1], "y": [2]})
    assert run("search", other, "--store", tmp_path / "store").code == 0
    refused(run("import", other, "--store", tmp_path / "store"), "expected a column 'sku' of ids, as data.id names it")


@pytest.mark.anyio
async def test_embeds_missing_and_unknown_values_as_finite_numbers(folder: Path, version: Version) -> None:
    async with serving(settings_for(folder / "store"), version) as client:
        answer = await call(client, "/embed", inputs=[[None] * 8, [1e30, "?", "?", 1e30, "?", 0, True, 0]])
        assert np.isfinite(answer["embeddings"]).all()


def test_reconstructs_categories_better_than_the_most_frequent_one(version: Version, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "more.csv", mixed(300, seed=7))
    rows, _ = read_sample(open_rows(str(path), spec=version.encoder.inputs), 300, 0)
    back = version.autoencoder.reconstruct(rows)
    for place, column in enumerate(version.encoder.columns):
        present = ~np.isnan(rows[:, place])
        if column.kind == "numeric" or len(column.values) == 1:
            continue
        right = float((back[present, place] == rows[present, place]).mean())
        commonest = Counter(rows[present, place].tolist()).most_common(1)[0][1] / int(present.sum())
        assert right > commonest + 0.05, column.name
    numbers = [INPUTS.index(name) for name in ("weight", "legs")]
    error = np.nanmean((back - rows)[:, numbers] ** 2, axis=0) / np.nanvar(rows[:, numbers], axis=0)
    assert (error < 0.5).all()


def test_the_judges_accept_tables(folder: Path, version: Version) -> None:
    rows, labels = read_sample(open_rows(str(folder / "table.csv")), COUNT, 0)
    scaling = version.encoder.preprocess
    noisy = add_noise(rows[200:], scaling)
    noise_test = NoiseTest(rows[:200], rows[200:], noisy, labels[:200], labels[200:])
    raw, pca = score_raw(noise_test, scaling), score_pca(4, scaling, noise_test, rows[:200])
    ours = score_encoder("ours", version.autoencoder, noise_test)
    assert (raw.reconstruction, raw.name) == (0, "preprocessed rows")
    for judged in (raw, pca, ours):
        assert 0 <= judged.reconstruction < 1
        assert judged.precision is not None
        assert judged.precision > 0.8


def test_text_is_payload_if_categories_are_disabled(folder: Path, tmp_path: Path) -> None:
    config = load_config(None, [*QUICK, "fit.epochs=1", "data.categories=0"])
    encoder = train(open_rows(str(folder / "table.csv")), config, tmp_path / "run").encoder
    assert [column.name for column in encoder.columns] == ["weight", "always", "legs", "tame", "price"]
    number = build(open_rows(str(folder / "table.csv")), tmp_path / "run", store := Store(tmp_path / "store"))
    assert store.open(number).items.payload_at(0)["animal"] in {"cat", "dog", "fish"}


def test_a_run_resumes_only_with_the_same_categories(tmp_path: Path) -> None:
    table = mixed(60)
    path = write_csv(tmp_path / "a.csv", table)
    config = load_config(None, [*QUICK, "fit.epochs=2"])
    first = train(open_rows(str(path)), config, tmp_path / "run").encoder
    again = train(open_rows(str(path)), config, tmp_path / "run", resume=True).encoder
    assert again.digest == first.digest
    renamed = table | {"animal": [{"cat": "ape"}.get(animal, animal) for animal in table["animal"]]}
    write_csv(path, renamed)  # the same codes, for other words
    with pytest.raises(ResumeError, match="columns: expected the settings and data that the run began with"):
        train(open_rows(str(path)), config, tmp_path / "run", resume=True)
