"""All items near a query are deleted, so the lists that the index visits are empty."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.items.filters import read_filter
from lookalike.index.limits import MAX_FOUND
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from tests.factories import cloud, encoder_at, made_rows

WIDTH, CLUSTERS, EACH = 4, 40, 100
KEY = f"IVF{CLUSTERS},Flat"
CENTRES = 50 * cloud(CLUSTERS, WIDTH, seed=3)
ROWS = np.repeat(CENTRES, EACH, axis=0) + cloud(CLUSTERS * EACH, WIDTH, seed=4)
QUERY = CENTRES[:1]
BY_DISTANCE = np.argsort(np.linalg.norm(ROWS - QUERY, axis=1), kind="stable")
EVEN = read_filter({"field": "even", "equal": True})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A search visits one list of forty."""
    store = Store(tmp_path / "store")
    rows = made_rows(ROWS, payloads=[{"even": i % 2 == 0} for i in range(len(ROWS))])
    encoder = encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32))
    build(rows, encoder, store, metric="l2", target=Target(recall=0.5, key=KEY), device="cpu")
    store.promote(1)
    version = store.open_champion()
    assert version.index.spec.search == "nprobe=1"
    return store


def delete(store: Store, rows: NDArray[np.int64]) -> Collection:
    log = ChangeLog(store.folder)
    log.append([Change(f"row-{i}") for i in rows])
    log.close()
    return open_collection(store, 1)


def ids(collection: Collection, limit: int = 10, query: NDArray[np.float32] = QUERY) -> list[str]:
    found = collection.searcher.search(query, limit).positions[0]
    return [collection.items.id_at(int(place)) for place in found if place >= 0]


def named(rows: NDArray[np.int64]) -> list[str]:
    return [f"row-{i}" for i in rows]


def looked_into(store: Store) -> NDArray[np.int64]:
    """The rows of the list that the query visits, the nearest first."""
    version = store.open_champion()
    places = version.index.search(QUERY, MAX_FOUND)[1][0]
    return np.array([int(version.items.id_at(int(p)).removeprefix("row-")) for p in places if p >= 0], np.int64)


@pytest.mark.parametrize("spared", [0, 5, 9])
def test_finds_present_items_if_a_list_has_too_few(store: Store, spared: int) -> None:
    rows = looked_into(store)
    assert 50 < len(rows) < 400
    gone = rows[: len(rows) - spared]
    assert ids(delete(store, gone)) == named(BY_DISTANCE[~np.isin(BY_DISTANCE, gone)][:10])


@pytest.mark.parametrize("count", [100, 250, 400])
def test_finds_limit_items_although_many_near_items_are_deleted(store: Store, count: int) -> None:
    assert len(ids(delete(store, BY_DISTANCE[:count]))) == 10


def test_finds_all_items_if_fewer_than_the_limit_are_left(store: Store) -> None:
    collection = delete(store, BY_DISTANCE[:-6])
    assert ids(collection) == named(BY_DISTANCE[-6:])


def test_only_queries_that_are_short_are_compared_with_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    nearest = Embeddings.nearest

    def counted(self: Embeddings, queries: NDArray[np.float32], *rest: object) -> object:
        compared.append(len(queries))
        return nearest(self, queries, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Embeddings, "nearest", counted)
    collection = delete(store, looked_into(store))
    far = ROWS[BY_DISTANCE[-1:]]
    assert len(ids(collection, query=far)) == 10
    assert compared == []
    found = collection.searcher.search(np.concatenate([far, QUERY, far]), 10)
    assert (found.positions >= 0).all()
    assert compared == [1]


@pytest.mark.parametrize("exact", [0, 100_000])
def test_a_filter_finds_the_present_items_that_it_allows(
    store: Store, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    monkeypatch.setattr("lookalike.index.versions.searching.EXACT", exact)
    collection = delete(store, BY_DISTANCE[:250])
    left = [i for i in BY_DISTANCE[250:] if i % 2 == 0]
    found = collection.searcher.search(QUERY, 10, EVEN).positions[0]
    assert [collection.items.id_at(int(place)) for place in found] == [f"row-{i}" for i in left[:10]]


@pytest.mark.parametrize("count", [100, 250, 400])
def test_a_compaction_finds_as_many_items_as_a_build(store: Store, count: int) -> None:
    delete(store, BY_DISTANCE[:count])
    assert compact(store) == 2
    assert len(ids(open_collection(store, 2))) == 10


def test_compaction_keeps_an_index_that_finds_as_many_items_as_before(store: Store) -> None:
    delete(store, np.arange(0, len(ROWS), 400))
    assert compact(store) == 2
    one, two = (store.open(number).manifest for number in (1, 2))
    assert two.tuning == one.tuning


def test_compaction_keeps_the_index_if_too_few_items_are_left_for_a_new_one(store: Store) -> None:
    delete(store, BY_DISTANCE[:-20])
    assert compact(store) == 2
    after = open_collection(store, 2)
    assert after.version.index.spec.key == KEY
    assert len(after.items) == 20
