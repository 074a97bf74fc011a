import json
from pathlib import Path

import pytest

from lookalike.cli.why import tile_map
from lookalike.index.versions.store import Store
from tests.lookalike.helpers import refused, run
from tests.mixed import QUICK, mixed, write_csv


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a version of a small table."""
    folder = tmp_path_factory.mktemp("table")
    data, store = write_csv(folder / "animals.csv", mixed()), folder / "store"
    settings = [text for setting in QUICK for text in ("--set", setting)]
    assert run("train", data, "--run", folder / "run", *settings).code == 0
    done = run("build", data, "--encoder", folder / "run", "--store", store)
    assert "the version stores the items' inputs in 0.0 MB; --no-inputs leaves them out" in done.err
    assert run("promote", 1, "--store", store).code == 0
    return store


def test_a_table_has_a_line_for_each_column(table: Path) -> None:
    done = run("why", "item-0", "item-4", "--store", table)
    assert done.code == 0, done.err
    alike, apart = done.out.split("what separates them\n")
    assert alike.startswith("item-0 and item-4: score ")
    assert any(line.split()[:4] == ["animal", "cat", "≠", "dog"] for line in apart.splitlines())
    assert any(line.split()[:4] == ["legs", "4", "=", "4"] for line in alike.splitlines())
    assert "legs" not in apart


def test_json_has_all_parts(table: Path) -> None:
    done = run("why", "item-0", "item-3", "--store", table, "--json")
    explained = json.loads(done.out)
    assert explained["ids"] == ["item-0", "item-3"]
    names = {part["part"]: part for part in explained["parts"]}
    assert set(names) == {"weight", "animal", "colour", "always", "planet", "legs", "tame", "price"}
    assert (names["animal"]["a"], names["animal"]["b"], names["animal"]["apart"]) == ("cat", "cat", 0)
    weights = [part["alike"] for part in explained["parts"]]
    assert weights == sorted(weights, reverse=True)


def test_the_same_item_has_nothing_that_separates_it(table: Path) -> None:
    done = run("why", "item-0", "item-0", "--store", table, "--limit", "2")
    assert done.out.rstrip().endswith("what separates them: nothing")
    assert done.out.count("differ 0.00") == 2


def test_a_picture_has_tiles_and_a_map(tiny_store: Store) -> None:
    done = run("why", "0", "10", "--store", tiny_store.folder)
    assert done.code == 0, done.err
    lines = [line.strip() for line in done.out.splitlines()]
    assert sum(line.startswith("|") and line.endswith("|") and len(line) == 10 for line in lines) == 8
    assert "##" in done.out


def test_the_map_shows_the_weights_of_tiles() -> None:
    places = [(0, 0, 1.0), (0, 2, 0.5), (3, 0, -1.0), (3, 2, 0.0)]
    parts = [{"place": {"top": top, "left": left}, "alike": weight} for top, left, weight in places]
    assert tile_map(parts, "alike") == ["  |##==|", "  |    |"]


def test_unknown_items_are_named(table: Path) -> None:
    refused(run("why", "item-0", "no item", "--store", table), "'no item'")


def test_a_version_without_inputs_is_refused(table: Path, tmp_path: Path) -> None:
    data, run_folder = table.parent / "animals.csv", table.parent / "run"
    done = run("build", data, "--encoder", run_folder, "--store", tmp_path, "--no-inputs")
    assert "stores the items' inputs" not in done.err
    run("promote", 1, "--store", tmp_path)
    refused(run("why", "item-0", "item-1", "--store", tmp_path), "without --no-inputs")
