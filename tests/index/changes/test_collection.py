"""A collection compared with exact search over a dictionary, and with its compaction."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, embedded, open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import JobError, QueryError, StoreError, UnknownItemError
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.build import build
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.store import Store
from tests.factories import cloud, encoder_at, log_changes, made_rows, put

WIDTH, DIM, COUNT = 6, 3, 120
ENCODER = cloud(WIDTH, DIM, seed=1)

Rows = NDArray[np.float32]
Contents = dict[str, tuple[Rows, dict[str, Any]]]


def made(folder: Path, metric: Metric = "l2", key: str = "Flat") -> Store:
    store = Store(folder / "store")
    build(
        made_rows(cloud(COUNT, WIDTH)),
        encoder_at(folder / "encoder", ENCODER),
        store,
        metric=metric,
        target=Target(recall=0.5, key=key),
        device="cpu",
    )
    store.promote(1)
    return store


def contents(collection: Collection) -> Contents:
    """The items of the version as a client sees them, by id; the inputs are those of `made`."""
    items = collection.version.items
    rows = {f"row-{i}": row for i, row in enumerate(cloud(COUNT, WIDTH))}
    return {items.id_at(p): (rows[items.id_at(p)], json.loads(items.payload_json(p))) for p in range(len(items))}


def random_changes(rng: np.random.Generator, known: Contents, count: int) -> list[Change]:
    """Add, replace and delete items in sequence, and in `known` too."""
    changes = []
    for _ in range(count):
        name = str(rng.choice(sorted(known))) if known and rng.random() < 0.5 else f"new{rng.integers(40)}"
        if rng.random() < 0.3:
            changes.append(Change(name))
            known.pop(name, None)
        else:
            row, payload = cloud(1, WIDTH, seed=int(rng.integers(1 << 30)))[0], {"n": int(rng.integers(4))}
            changes.append(put(name, row, payload))
            known[name] = row, payload
    return changes


def expected(
    collection: Collection, known: Contents, query: Rows, limit: int, only: int | None = None
) -> tuple[list[str], list[float]]:
    """Exact search in float64, ties ordered by id; `only`: the items with this n."""
    names = sorted(name for name, (_, payload) in known.items() if only is None or payload.get("n") == only)
    if not names:
        return [], []
    vectors = collection.version.embed(np.stack([known[name][0] for name in names])).astype(np.float64)
    if collection.metric == "l2":
        keys = np.sqrt(np.square(vectors - query.astype(np.float64)).sum(axis=1))
    else:
        keys = -(vectors @ query.astype(np.float64))
    order = np.argsort(keys, kind="stable")[:limit]
    sign = 1 if collection.metric == "l2" else -1
    return [names[i] for i in order], [float(sign * keys[i]) for i in order]


def told(collection: Collection, found: SearchResult, row: int = 0) -> tuple[list[str], list[float]]:
    places = [int(p) for p in found.positions[row] if p >= 0]
    return [collection.items.id_at(p) for p in places], found.scores[row][: len(places)].tolist()


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("seed", range(4))
def test_finds_the_same_as_exact_search_over_a_dictionary(tmp_path: Path, metric: Metric, seed: int) -> None:
    store, rng = made(tmp_path, metric), np.random.default_rng(seed)
    collection = open_collection(store, 1)
    known = contents(collection)
    for _ in range(6):
        changes = random_changes(rng, known, int(rng.integers(1, 60)))
        log_changes(store.folder, *changes)
        collection.apply(changes, embedded(collection.version, changes))
        queries = collection.version.embed(cloud(3, WIDTH, seed=int(rng.integers(1 << 30))))
        for limit in (1, 10, COUNT * 2):
            found = collection.searcher.search(queries, limit)
            for row, query in enumerate(queries):
                names, scores = told(collection, found, row)
                wanted, right = expected(collection, known, query, limit)
                assert names == wanted
                np.testing.assert_allclose(scores, right, rtol=1e-5, atol=1e-5)
        only = read_filter({"field": "n", "equal": 2})
        if any(payload.get("n") == 2 for _, payload in known.values()):
            assert (
                told(collection, collection.searcher.search(queries, 7, only))[0]
                == (expected(collection, known, queries[0], 7, only=2)[0])
            )
    assert collection.items.count == len(known)


@pytest.mark.parametrize("key", ["Flat", "IVF4,Flat", "HNSW8"])
def test_answers_like_its_compaction(tmp_path: Path, key: str) -> None:
    store, rng = made(tmp_path, key=key), np.random.default_rng(7)
    known = contents(open_collection(store, 1))
    log_changes(store.folder, *random_changes(rng, known, 150))
    collection = open_collection(store, 1)
    number = compact(store)
    assert number == 2 == store.champion_number()
    after = open_collection(store, 2)
    assert not after.is_changed
    assert after.applied == collection.applied == 150
    assert sorted(map(after.items.id_at, range(len(after.items)))) == sorted(known)
    rows = cloud(20, WIDTH, seed=99)
    before, now = (one.searcher.search_rows(rows, 5) for one in (collection, after))
    if key == "Flat":
        assert [told(collection, before, i) for i in range(20)] == [told(after, now, i) for i in range(20)]
        np.testing.assert_allclose(before.novelty, now.novelty)
    for name in list(known)[:10]:
        place = after.items.positions([name])
        assert json.loads(after.items.payload_json(int(place[0]))) == known[name][1]
        np.testing.assert_allclose(
            after.vectors_at(place)[0], collection.version.embed(known[name][0][None])[0], rtol=1e-5, atol=1e-5
        )
    manifest = after.version.manifest
    assert (manifest.parent, manifest.sequence, manifest.items) == (1, 150, len(known))
    np.testing.assert_array_equal(after.version.maps[1], np.eye(DIM))
    assert after.version.answers_canary()


def test_changes_apply_to_every_version(tmp_path: Path) -> None:
    store = made(tmp_path)
    row = cloud(1, WIDTH, seed=5)[0]
    log_changes(store.folder, put("row-0", row, {"n": 9}), Change("row-1"), put("late", row, {}))
    assert compact(store) == 2
    log_changes(store.folder, Change("late"), put("row-1", row, {"n": 1}))
    for number in (1, 2):  # as after a rollback
        collection = open_collection(store, number)
        assert collection.items.count == COUNT
        names, _ = told(collection, collection.searcher.search(collection.version.embed(row[None]), 3))
        assert names[:2] == ["row-0", "row-1"]
        with pytest.raises(UnknownItemError):
            collection.items.positions(["late"])


def test_an_item_does_not_find_itself_and_a_deleted_item_is_unknown(tmp_path: Path) -> None:
    store = made(tmp_path)
    log_changes(store.folder, put("row-0", cloud(1, WIDTH, seed=5)[0], {}), Change("row-3"))
    collection = open_collection(store, 1)
    assert "row-0" not in told(collection, collection.searcher.search_items(["row-0"], 200))[0]
    assert "row-3" not in told(collection, collection.searcher.search_items(["row-0"], 200))[0]
    with pytest.raises(UnknownItemError):
        collection.searcher.search_items(["row-3"], 5)


def test_a_filter_knows_the_fields_of_new_items_and_of_old_ones(tmp_path: Path) -> None:
    store = made(tmp_path)
    log_changes(store.folder, put("a", cloud(1, WIDTH, seed=5)[0], {"color": "red"}))
    collection = open_collection(store, 1)
    query = collection.version.embed(cloud(1, WIDTH, seed=6))
    only = read_filter({"field": "color", "equal": "red"})
    assert told(collection, collection.searcher.search(query, 5, only))[0] == ["a"]
    others = read_filter({"not": {"field": "color", "exists": True}})
    assert len(told(collection, collection.searcher.search(query, 1_000, others))[0]) == COUNT
    with pytest.raises(QueryError, match="color"):
        collection.searcher.search(query, 5, read_filter({"field": "shape", "equal": "round"}))


def test_the_number_of_filter_fields_is_limited_as_in_a_version(tmp_path: Path) -> None:
    """256 fields: "number", of the version, and the first 255 fields that were put, over three batches."""
    store = made(tmp_path)
    collection, row = open_collection(store, 1), cloud(1, WIDTH, seed=5)[0]
    query = collection.version.embed(row[None])
    for batch in range(3):
        fields = {f"f{number}": number for number in range(100 * batch, 100 * batch + 100)}
        changes = [put(f"new{batch}", row, fields)]
        log_changes(store.folder, *changes)
        collection.apply(changes, embedded(collection.version, changes))
        collection.searcher.search(query, 1, read_filter({"field": f"f{100 * batch}", "exists": True}))
    assert compact(store) == 2
    for one in (collection, open_collection(store, 2)):
        assert told(one, one.searcher.search(query, 5, read_filter({"field": "f254", "equal": 254})))[0] == ["new2"]
        with pytest.raises(QueryError, match="Only the first 256 fields"):
            one.searcher.search(query, 5, read_filter({"field": "f255", "exists": True}))


@pytest.mark.parametrize("value", [3e38, 1e20])
def test_an_item_that_cannot_be_embedded_is_not_found_and_hides_what_it_replaced(tmp_path: Path, value: float) -> None:
    """Values that overflow float32, or the distances of FAISS."""
    store = made(tmp_path)
    log_changes(store.folder, put("row-0", np.full(WIDTH, value, np.float32), {}))
    collection = open_collection(store, 1)
    names, _ = told(collection, collection.searcher.search(collection.version.embed(cloud(1, WIDTH)), COUNT))
    assert len(names) == COUNT - 1
    assert "row-0" not in names


def test_if_everything_is_deleted_nothing_is_found_or_compacted(tmp_path: Path) -> None:
    store = made(tmp_path)
    log_changes(store.folder, *(Change(f"row-{i}") for i in range(COUNT)))
    collection = open_collection(store, 1)
    found = collection.searcher.search(collection.version.embed(cloud(2, WIDTH)), 4)
    assert told(collection, found) == ([], [])
    assert (found.novelty > 0).all()
    with pytest.raises(StoreError, match="all deleted"):
        compact(store)
    assert store.numbers() == [1]


def test_compaction_fails_during_another_job_and_needs_changes(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert compact(store) is None
    log_changes(store.folder, Change("row-3"))
    with store.job("retrain"), pytest.raises(JobError, match="retrain"):
        compact(store)
    assert compact(store) == 2
    assert compact(store) is None


def test_compaction_includes_items_that_were_put_and_deleted_again(tmp_path: Path) -> None:
    store, row = made(tmp_path), cloud(1, WIDTH, seed=5)[0]
    log_changes(store.folder, put("a", row, {}), Change("a"))
    assert not open_collection(store, 1).is_changed
    assert compact(store) == 2
    assert (store.manifest(2).sequence, store.manifest(2).items) == (2, COUNT)
    assert open_collection(store, 2).items.changed == 0
    assert compact(store) is None
    assert [change.sequence for change in ChangeLog(store.folder).read(0)] == [2]


def test_items_of_another_width_are_refused(tmp_path: Path) -> None:
    store = made(tmp_path)
    log_changes(store.folder, put("x", np.zeros(WIDTH + 1, np.float32), {}))
    with pytest.raises(StoreError, match=f"{WIDTH + 1} values"):
        open_collection(store, 1)


def test_an_unused_collection_is_freed_at_once(tmp_path: Path) -> None:
    """Without garbage collection, which may run late in a service that changes its version."""
    store = made(tmp_path)
    log_changes(store.folder, put("a", cloud(1, WIDTH, seed=5)[0], {"n": 1}))
    collection = open_collection(store, 1)
    query = collection.version.embed(cloud(1, WIDTH))
    collection.searcher.search(query, 3, read_filter({"field": "n", "equal": 1}))
    collection.version.searcher.search(query, 3)
    left: list[weakref.ref[Any]] = [weakref.ref(one) for one in (collection, collection.version, collection.items)]
    gc.disable()
    try:
        del collection
        assert [one() for one in left] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_equal_items_tie_by_id_however_many_were_put_and_asked_together(tmp_path: Path, metric: Metric) -> None:
    collection, same = open_collection(made(tmp_path, metric), 1), cloud(1, WIDTH, seed=9)[0]
    for first, beside in (("d", 0), ("b", 63), ("c", 6), ("a", 1)):
        rows = [same, *cloud(beside, WIDTH, seed=beside)]
        changes = [put(f"{first}{n}" if n else first, row, {}) for n, row in enumerate(rows)]
        collection.apply(changes, embedded(collection.version, changes))
    vectors = collection.vectors_at(collection.items.positions(["a", "b", "c", "d"]))
    assert (vectors == vectors[0]).all()
    asked = np.stack([same, *cloud(70, WIDTH, seed=3)])
    together = collection.searcher.search_rows(asked, 6)
    if metric != "ip":
        assert told(collection, together)[0][:4] == ["a", "b", "c", "d"]
    for n, row in enumerate(asked):
        alone = collection.searcher.search_rows(row[None], 6)
        assert told(collection, alone) == told(collection, together, n)
        assert alone.novelty[0] == together.novelty[n]
