from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes import item_inputs
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.item_inputs import input_of
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.versions.build import BuildExtras, build
from lookalike.index.versions.store import Store
from lookalike.training.array_types import Floats
from tests.factories import cloud, encoder_at, log_changes, made_rows, put
from tests.index.changes.test_collection import COUNT, WIDTH, contents, made, random_changes


def found(store: Store, name: str) -> Floats:
    collection = open_collection(store, store.champion_number())
    with closing(ChangeLog(store.folder)) as log:
        return input_of(collection, log, name)


@pytest.mark.parametrize("block", [1, 7 * WIDTH, 1 << 22])
def test_each_item_has_its_last_input_before_and_after_a_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(item_inputs, "_BLOCK_VALUES", block)
    store = made(tmp_path)
    known = contents(Collection(store.open(1)))
    for seed in range(2):
        log_changes(store.folder, *random_changes(np.random.default_rng(seed), known, 80))
        collection = open_collection(store, store.champion_number())
        with closing(ChangeLog(store.folder)) as log:
            for name, (row, _) in known.items():
                assert np.array_equal(input_of(collection, log, name), row)
        compact(store)
    version = store.open_champion()
    assert version.number == 3
    assert version.inputs is not None
    for position in range(len(version.items)):
        name = version.items.id_at(position)
        assert np.array_equal(version.inputs.at(np.array([position]))[0], known.pop(name)[0])
    assert known == {}


def test_a_compaction_ignores_changes_that_are_later_than_its_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = made(tmp_path), cloud(2, WIDTH, seed=5)
    log_changes(store.folder, put("new", rows[0]))
    copy = item_inputs.copy_inputs

    def late(folder: Path, collection: Collection, *rest: object) -> None:
        log_changes(store.folder, put("new", rows[1]), Change("row-0"))
        copy(folder, collection, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("lookalike.index.changes.compact.copy_inputs", late)
    version = store.open(compact(store) or 0)
    assert version.inputs is not None
    assert len(version.inputs) == COUNT + 1
    assert np.array_equal(version.inputs.at(np.array([version.items.position("new")]))[0], rows[0])
    assert np.array_equal(found(store, "new"), rows[1])


def test_the_origin_is_subtracted_from_both(tmp_path: Path) -> None:
    origin = np.array([1e9, 0, 0])
    rows = np.array([[1e9 + 1, 2, 3], [1e9 + 5, 0, 0]])
    encoder = encoder_at(tmp_path / "encoder", np.eye(3, dtype=np.float32), origin=origin.tolist())
    store = Store(tmp_path / "store")
    store.promote(build(made_rows(rows, ["a", "b"]), encoder, store, target=Target(key="Flat"), device="cpu"))
    log_changes(store.folder, put("b", np.array([1e9 + 6, 1, 1])))
    assert found(store, "a").tolist() == [1, 2, 3]
    assert found(store, "b").tolist() == [6, 1, 1]


def test_an_unknown_or_deleted_item_has_none(tmp_path: Path) -> None:
    store = made(tmp_path)
    log_changes(store.folder, Change("row-1"))
    for name in ("row-1", "of no item"):
        with pytest.raises(UnknownItemError, match=name):
            found(store, name)


def test_a_version_without_inputs_says_how_to_get_them(tmp_path: Path) -> None:
    encoder, store = encoder_at(tmp_path / "encoder", np.eye(3, dtype=np.float32)), Store(tmp_path / "store")
    extras = BuildExtras(inputs=False)
    store.promote(build(made_rows(cloud(20, 3)), encoder, store, target=Target(key="Flat"), extras=extras))
    log_changes(store.folder, put("new", cloud(1, 3)[0]))
    with pytest.raises(QueryError, match="without --no-inputs"):
        found(store, "row-1")
    compact(store)
    assert store.open_champion().inputs is None
