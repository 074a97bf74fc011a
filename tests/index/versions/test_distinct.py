"""Distinct hits against brute force: all items ranked, then thinned one by one."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import drop_self
from lookalike.index.ann.spec import IndexSpec
from lookalike.index.ann.target import Target
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import read_filter
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.versions import distinct, searching
from lookalike.index.versions.build import build
from lookalike.index.versions.distinct import Thinning, payload_interval, thinned, thinning_for
from lookalike.index.versions.searching import Base, rank
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.transforms import ImageTransform, Interval, WindowTransform, interval_of
from tests.factories import window_rows

Payload = dict[str, Any]


def base(folder: Path, vectors: NDArray[np.float32], payloads: list[Payload]) -> Base:
    index = VectorIndex(IndexSpec("Flat", "l2"), vectors.shape[1])
    index.add(vectors)
    writer = ItemWriter(folder, "made")
    writer.write([str(i) for i in range(len(vectors))], payloads)
    writer.close()
    return Base(index, Embeddings(vectors, "l2"), read_items(folder), np.ones(len(vectors), np.float32))


def by_hand(order: list[int], payloads: list[Payload], limit: int, thinning: Thinning, query: int | None) -> list[int]:
    """Thin all items, ranked, one by one."""
    kept: list[int] = []
    for place in order:
        interval = interval_of(payloads[place])
        if place == query:
            continue
        if query is not None and interval and (own := interval_of(payloads[query])) and thinning.exclude is not None:
            gap = max(interval.start - own.end, own.start - interval.end)
            if interval.recording == own.recording and gap < thinning.exclude:
                continue
        others = (interval_of(payloads[other]) for other in kept)
        if thinning.distinct and interval and any(other and interval.overlaps(other) for other in others):
            continue
        kept.append(place)
    return kept[:limit]


PAYLOAD = st.one_of(
    st.just({}),
    st.builds(
        lambda name, start, size: {"recording": name, "start": start, "end": start + size},
        *(st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 6)),
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    payloads=st.lists(PAYLOAD, min_size=1, max_size=40),
    limit=st.integers(1, 12),
    thinning=st.builds(Thinning, st.booleans(), st.one_of(st.none(), st.integers(0, 4).map(float))),
    by_ids=st.booleans(),
    seed=st.integers(0, 99),
)
def test_distinct_hits_equal_those_of_brute_force(
    payloads: list[Payload], limit: int, thinning: Thinning, by_ids: bool, seed: int
) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(payloads), 3)).astype(np.float32)
    with TemporaryDirectory() as folder:
        space = base(Path(folder), vectors, payloads)
        queries = vectors[:5].copy()
        own = np.arange(len(queries)) if by_ids else None

        def find(numbers: NDArray[np.int64], k: int, exact: bool) -> Any:
            if own is None:
                return rank(space, queries[numbers], k)
            return drop_self(*rank(space, queries[numbers], k + 1), own[numbers], k)

        first = find(np.arange(len(queries)), limit, False)
        scores, positions = thinned(first, find, partial(payload_interval, space), limit, thinning, own)
    distances = np.sqrt(((queries[:, None] - vectors) ** 2).sum(axis=2))
    for number, row in enumerate(positions.tolist()):
        order = np.argsort(distances[number]).tolist()
        expected = by_hand(order, payloads, limit, thinning, number if by_ids else None)
        assert row == expected + [-1] * (limit - len(expected))
        np.testing.assert_allclose(scores[number, : len(expected)], distances[number, expected], atol=1e-5)
    assert np.array_equal(np.isnan(scores), positions < 0)


def encoder_of(transform: object) -> Encoder:
    return SimpleNamespace(transform=transform)  # type: ignore[return-value]


WITH_CLOCK = WindowTransform(window=8, hop=2, channels=("x",), rate=50.0)
WITHOUT_CLOCK = WindowTransform(window=8, hop=2, channels=("x",))


@pytest.mark.parametrize(
    ("transform", "options", "expected"),
    [
        (WITH_CLOCK, {}, Thinning()),
        (WITH_CLOCK, {"distinct": True}, Thinning()),
        (WITH_CLOCK, {"distinct": False}, None),
        (WITH_CLOCK, {"exclude": "1.5min", "by_ids": True}, Thinning(exclude=90.0)),
        (WITH_CLOCK, {"exclude": "200ms", "by_ids": True}, Thinning(exclude=0.2)),
        (WITH_CLOCK, {"exclude": 3, "by_ids": True}, Thinning(exclude=3.0)),
        (WITH_CLOCK, {"distinct": False, "exclude": 0, "by_ids": True}, Thinning(distinct=False, exclude=0.0)),
        (WITHOUT_CLOCK, {"exclude": 30, "by_ids": True}, Thinning(exclude=30.0)),
        (None, {}, None),
        (None, {"distinct": False}, None),
        (ImageTransform(height=2, width=2, mode="grey"), {}, None),
    ],
)
def test_windows_are_distinct_by_default(transform: object, options: Any, expected: Thinning | None) -> None:
    assert thinning_for(encoder_of(transform), **options) == expected


@pytest.mark.parametrize(
    ("transform", "options", "message"),
    [
        (None, {"distinct": True}, "distinct: expected no distinct, because the items are not windows of recordings"),
        (None, {"exclude": 3, "by_ids": True}, "exclude: expected no exclude"),
        (WITH_CLOCK, {"exclude": 3}, "exclude: expected a search by ids, found 3"),
        (WITH_CLOCK, {"exclude": -1, "by_ids": True}, "a number of seconds from 0 on, or a time such as 30s"),
        (WITH_CLOCK, {"exclude": "3 days", "by_ids": True}, "a number of seconds from 0 on, or a time such as 30s"),
        (WITH_CLOCK, {"exclude": float("nan"), "by_ids": True}, "a number of seconds"),
        (WITHOUT_CLOCK, {"exclude": "30s", "by_ids": True}, "a number of samples from 0 on, found '30s'"),
        (WITH_CLOCK, {"exclude": "1e9h", "by_ids": True}, "a time such as 30s, found '1e9h'"),
        (WITH_CLOCK, {"exclude": "9" * 400 + "h", "by_ids": True}, "a time such as 30s, found '999"),
        (WITH_CLOCK, {"exclude": [], "by_ids": True}, "a time such as 30s, found"),
        (WITH_CLOCK, {"exclude": True, "by_ids": True}, "a time such as 30s, found True"),
    ],
)
def test_refuses_options_that_do_not_fit(transform: object, options: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        thinning_for(encoder_of(transform), **options)


@pytest.fixture(scope="module")
def collection(window_store: Store) -> Collection:
    return Collection(window_store.open_champion())


def intervals(collection: Collection, positions: NDArray[np.int64]) -> list[Interval]:
    found = [payload_interval(collection.items, int(position)) for position in positions if position >= 0]
    return [interval for interval in found if interval]


def overlaps(found: list[Interval]) -> bool:
    return any(a.overlaps(b) for place, a in enumerate(found) for b in found[:place])


def test_the_held_out_rows_of_a_version_are_whole_recordings(collection: Collection) -> None:
    held = intervals(collection, np.array(collection.version.manifest.held))
    names = {interval.recording for interval in held}
    assert len(held) == 25 * len(names)


def test_hits_of_windows_do_not_overlap_and_novelty_stays(collection: Collection) -> None:
    searcher, thinning = collection.searcher, thinning_for(collection.encoder)
    rows = next(iter(window_rows(2).chunks())).inputs[::5]
    plain, thin = searcher.search_rows(rows, 10), searcher.search_rows(rows, 10, None, thinning)
    assert any(overlaps(intervals(collection, positions)) for positions in plain.positions)
    for positions in thin.positions:
        assert (positions >= 0).all()
        assert not overlaps(intervals(collection, positions))
    assert np.array_equal(thin.novelty, plain.novelty)
    assert np.array_equal(thin.positions[:, 0], plain.positions[:, 0])


@pytest.mark.parametrize("exclude", [None, 20])
def test_an_item_does_not_find_its_own_surroundings(collection: Collection, exclude: float | None) -> None:
    thinning = thinning_for(collection.encoder, exclude=exclude, by_ids=True)
    result = collection.searcher.search_items(["r3@20", "r5@0"], 40, None, thinning)
    for own, positions in zip((Interval("r3", 20, 28), Interval("r5", 0, 8)), result.positions, strict=True):
        found = intervals(collection, positions)
        assert not overlaps(found)
        gaps = [max(s.start - own.end, own.start - s.end) for s in found if s.recording == own.recording]
        assert all(gap >= (exclude or 0) for gap in gaps)
        assert len(found) == 40


def test_thinning_applies_to_filtered_searches_and_to_new_items(collection: Collection) -> None:
    thinning = thinning_for(collection.encoder, by_ids=True)
    only = read_filter({"field": "recording", "equal": "r3"})
    before = collection.searcher.search_items(["r3@20"], 10, only, thinning)
    assert intervals(collection, before.positions[0])
    vector = collection.vectors_at(collection.items.positions(["r3@20"]))
    collection.items.put("new", vector[0], 1.0, '{"recording": "r3", "start": 20, "end": 28}')
    try:
        after = collection.searcher.search_items(["r3@20"], 10, only, thinning)
        assert np.array_equal(before.positions, after.positions)  # the new item overlaps the query
        nearest = collection.searcher.search(vector, 1, only, thinning=thinning)
        assert len(intervals(collection, nearest.positions[0])) == 1
    finally:
        collection.items.drop("new")


def test_the_search_for_more_candidates_is_bounded(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (distinct, searching):
        monkeypatch.setattr(module, "MOST", 20)
    thinning = thinning_for(collection.encoder)
    result = collection.searcher.search_rows(next(iter(window_rows(1).chunks())).inputs[:3], 20, None, thinning)
    assert result.positions.shape == (3, 20)
    assert ((result.positions >= 0).sum(axis=1) < 20).all()


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("filtered", [False, True])
def test_all_items_are_compared_if_the_lists_of_the_index_are_exhausted(
    tmp_path: Path, window_store: Store, changed: bool, filtered: bool
) -> None:
    run = window_store.folder.parent / "run"
    store = Store(tmp_path / "store")
    store.promote(build(window_rows(), run, store, target=Target(key="IVF32,Flat"), device="cpu"))
    found, known = Collection(store.open_champion()), Collection(window_store.open_champion())
    found.version.index.set_search("nprobe=1")
    if changed:
        for collection in (found, known):
            collection.items.drop("r0@0")
    names = [f"r{number}" for number in range(11)]
    filter_ = read_filter({"field": "recording", "in": names}) if filtered else None
    thinning = thinning_for(found.encoder, by_ids=True)
    answers = [one.searcher.search_items(["r5@4"], 40, filter_, thinning) for one in (found, known)]
    assert (answers[0].positions >= 0).all()
    hits = [
        [one.items.id_at(p) for p in a.positions[0].tolist()] for one, a in zip((found, known), answers, strict=True)
    ]
    assert hits[0] == hits[1]
