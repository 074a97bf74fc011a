"""Searches against brute force over the embeddings, with ties ordered by id."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import recalls
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import VectorIndex, nearest
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import read_filter
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.limits import MAX_FOUND
from lookalike.index.versions import searching
from lookalike.index.versions.searching import Base, among, rank
from tests.factories import cloud

METRICS: tuple[Metric, ...] = get_args(Metric)
each_metric = pytest.mark.parametrize("metric", METRICS)

Vectors = NDArray[np.float32]


def names_for(count: int) -> list[str]:
    """Ids that are sorted neither by position nor as numbers."""
    return [str(i * 7919 % 10_007) for i in range(count)]


def base(
    folder: Path,
    vectors: Vectors,
    metric: Metric = "l2",
    *,
    key: str = "Flat",
    search: str = "",
    names: list[str] | None = None,
) -> Base:
    """Item i has the payload {"i": i}; without other parameters, the index visits all lists."""
    index = VectorIndex(IndexSpec(key, metric), vectors.shape[1])
    index.train(vectors)
    index.add(vectors)
    grids = index.search_params.grids().items()
    index.set_search(search or ",".join(f"{name}={values[-1]}" for name, values in grids))
    writer = ItemWriter(folder, "made")
    writer.write(names or names_for(len(vectors)), [{"i": i} for i in range(len(vectors))])
    writer.close()
    return Base(index, Embeddings(vectors, metric), read_items(folder), np.ones(len(vectors), np.float32))


def brute_force(
    metric: Metric, query: Vectors, vectors: Vectors, names: list[str], limit: int, among: NDArray[np.int64]
) -> tuple[list[np.float32], list[int]]:
    """Scores in float64, rounded to float32; ties are ordered by id."""
    q, x = query.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        scores = np.sqrt(((x - q) ** 2).sum(axis=1)).astype(np.float32)
    else:
        scores = np.array([np.einsum("d,d", q, one) for one in x], np.float32)
    order = sorted(among.tolist(), key=lambda i: (scores[i] if metric == "l2" else -scores[i], names[i]))[:limit]
    return [scores[i] for i in order], order


def grid(count: int, metric: Metric) -> Vectors:
    """Few different points with exact values, so that scores tie."""
    points = np.random.default_rng(0).integers(-2, 3, (count, 2)).astype(np.float32)
    if metric == "cosine":
        points = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)[points[:, 0].astype(int) % 4]
    return points


@each_metric
@pytest.mark.parametrize("key", ["Flat", "IVF8,SQ8", "HNSW32"])
def test_scores_are_those_of_the_embeddings_whatever_the_index_rounds(tmp_path: Path, metric: Metric, key: str) -> None:
    vectors, queries = normalize(cloud(400, 12)), normalize(cloud(10, 12, seed=1))
    scores, positions = rank(base(tmp_path, vectors, metric, key=key), queries, 10)
    wanted = Embeddings(vectors, metric).scores(queries, positions)
    assert np.array_equal(scores, wanted)
    assert (np.diff(scores, axis=1) * (1 if metric == "l2" else -1) >= 0).all()


@each_metric
@pytest.mark.parametrize("limit", [1, 2, 10, 60, 299, 300, 301, MAX_FOUND - 1])
def test_ties_are_ordered_by_id(tmp_path: Path, metric: Metric, limit: int) -> None:
    """300 items at 25 points: the last hit nearly always ties with items that are no hits."""
    vectors, names, everyone = grid(300, metric), names_for(300), np.arange(300)
    queries = np.array([[1, 0], [0, -1], [0, 1]], np.float32)
    scores, positions = rank(base(tmp_path, vectors, metric), queries, limit)
    for query, row, places in zip(queries, scores, positions, strict=True):
        wanted_scores, wanted = brute_force(metric, query, vectors, names, limit, everyone)
        assert places.tolist() == wanted
        assert row.tolist() == wanted_scores


def test_finds_the_least_ids_of_a_thousand_copies(tmp_path: Path) -> None:
    vectors = np.concatenate([np.ones((1_500, 3)), cloud(500, 3) + 9]).astype(np.float32)
    names = names_for(2_000)
    _, positions = rank(base(tmp_path, vectors), np.ones((1, 3), np.float32), 5)
    assert [names[i] for i in positions[0]] == sorted(names[:1_500])[:5]


def test_more_copies_than_the_maximum_are_answered(tmp_path: Path) -> None:
    vectors = np.ones((MAX_FOUND + 500, 2), np.float32)
    scores, positions = rank(base(tmp_path, vectors), vectors[:1], 5)
    assert scores.tolist() == [[0.0] * 5]
    assert len(set(positions[0])) == 5


@each_metric
def test_an_index_that_visits_too_few_items_is_completed(tmp_path: Path, metric: Metric) -> None:
    """Half of the rows are equal and share a list, so other lists have fewer items than the limit."""
    vectors = normalize(np.concatenate([np.ones((200, 3)), cloud(200, 3)]).astype(np.float32))
    names, everyone = names_for(400), np.arange(400)
    made = base(tmp_path, vectors, metric, key="IVF40,Flat", search="nprobe=1")
    visited = made.index.search(vectors[200:], 30)[1]
    short = np.flatnonzero((visited < 0).any(axis=1))
    assert len(short) > 100
    _, positions = rank(made, vectors[200:][short], 29)
    for query, places in zip(vectors[200:][short], positions, strict=True):
        assert places.tolist() == brute_force(metric, query, vectors, names, 29, everyone)[1]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=30),
    st.integers(1, 35),
    st.integers(0, 31),
    st.sampled_from(METRICS),
)
def test_any_search_is_brute_force(points: list[tuple[int, int]], limit: int, most: int, metric: Metric) -> None:
    vectors, names = np.array(points, np.float32), [f"{i * 17 % 101}" for i in range(len(points))]
    if metric == "cosine":
        vectors = normalize(vectors)
    with TemporaryDirectory() as folder:
        made = base(Path(folder), vectors, metric, names=names)
        given_filter = read_filter({"field": "i", "range": {"lt": most}})
        for some, passing in ((np.arange(len(points)), None), (np.arange(min(most, len(points))), given_filter)):
            scores, positions = rank(made, np.array([[1, 0]], np.float32), limit, passing)
            wanted_scores, wanted = brute_force(metric, np.array([1, 0], np.float32), vectors, names, limit, some)
            assert [p for p in positions[0].tolist() if p >= 0] == wanted
            assert scores[0, : len(wanted)].tolist() == wanted_scores
            assert np.isnan(scores[0, len(wanted) :]).all()


@each_metric
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 1 / 1_000])
def test_finds_the_nearest_items_that_pass_a_filter(tmp_path: Path, metric: Metric, share: float) -> None:
    vectors, queries = normalize(cloud(1_000, 12)), normalize(cloud(10, 12, seed=1))
    passing = np.sort(np.random.default_rng(2).permutation(1_000)[: round(share * 1_000)])
    given_filter = read_filter({"field": "i", "in": passing.tolist()})
    _, positions = rank(base(tmp_path, vectors, metric, key="IVF8,SQ8"), queries, 10, given_filter)
    assert positions.shape == (10, min(10, len(passing)))
    for query, places in zip(queries, positions, strict=True):
        assert places.tolist() == brute_force(metric, query, vectors, names_for(1_000), 10, passing)[1]


def test_a_filter_that_no_item_passes_has_no_hits(tmp_path: Path) -> None:
    vectors = cloud(20, 3)
    none = read_filter({"field": "i", "equal": -1})
    scores, positions = rank(base(tmp_path, vectors), vectors[:2], 5, none)
    assert (positions == -1).all()
    assert np.isnan(scores).all()
    assert len(positions) == 2


def clusters(count: int, seed: int) -> Vectors:
    """(count, 12) of unit length, around 60 points that do not depend on the seed."""
    random = np.random.default_rng(seed)
    around = np.random.default_rng(0).standard_normal((60, 12))[random.integers(0, 60, count)]
    return normalize((around + 0.3 * random.standard_normal((count, 12))).astype(np.float32))


FILTERS: dict[str, Callable[[Vectors], NDArray[np.bool_]]] = {
    "half by chance": lambda items: np.random.default_rng(2).random(len(items)) < 0.5,
    "a fifth at one end": lambda items: items[:, 0] < np.quantile(items[:, 0], 0.2),
    "a third at the other end": lambda items: items[:, 0] > np.quantile(items[:, 0], 2 / 3),
    "all but an end": lambda items: items[:, 0] > np.quantile(items[:, 0], 0.1),
    "all that is far from a query": lambda items: items @ clusters(1, 1)[0] < 0.3,
}


@each_metric
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("search", ["IVF256,SQfp16:nprobe=3", "IVF256,PQ6x4fs,RFlat:nprobe=3,k_factor=8"])
def test_filters_that_allow_very_many_items_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Metric, name: str, search: str
) -> None:
    """The index answers most queries itself; the other queries are compared with all items."""
    monkeypatch.setattr(searching, "EXACT", 0)
    items, queries = clusters(20_000, 0), clusters(100, 1)
    allowed = FILTERS[name](items)
    key, _, parameters = search.partition(":")
    made = base(tmp_path, items, metric, key=key, search=parameters, names=[str(i) for i in range(20_000)])
    places = np.flatnonzero(allowed)
    truth = places[nearest(queries, items[places], 10, metric)[1]]
    compared: list[int] = []
    comparison = Embeddings.nearest

    def counting(self: Embeddings, asked: Vectors, k: int, among: NDArray[np.int64] | None = None) -> Any:
        compared.append(len(asked))
        return comparison(self, asked, k, among)

    monkeypatch.setattr(Embeddings, "nearest", counting)
    _, positions = rank(made, queries, 10, find=among(made.index, made.embeddings, allowed))
    assert allowed[positions].all()
    assert recalls(positions, truth).mean() >= 0.95
    assert recalls(positions[:1], truth[:1]).mean() >= 0.9
    assert sum(compared) < len(queries)


def test_an_index_without_filters_is_not_used_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "EXACT", 0)
    vectors = cloud(200, 8)
    some = np.arange(0, 200, 3)
    given_filter = read_filter({"field": "i", "in": some.tolist()})
    _, positions = rank(base(tmp_path, vectors, key="PQ4x4fs"), vectors[:5], 10, given_filter)
    for query, places in zip(vectors[:5], positions, strict=True):
        assert places.tolist() == brute_force("l2", query, vectors, names_for(200), 10, some)[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": -3}, "limit"),
        ({"limit": MAX_FOUND}, "limit"),
        ({"queries": np.zeros((1, 4), np.float32)}, "embeddings"),
        ({"queries": np.full((1, 3), np.nan, np.float32)}, "embeddings"),
        ({"filter_": read_filter({"field": "color", "equal": 1})}, "filter.field"),
        ({"filter_": read_filter({"field": "i", "range": {"lt": "x"}})}, "filter.range"),
    ],
)
def test_refuses_invalid_queries(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    asked: dict[str, Any] = {"queries": np.zeros((1, 3), np.float32), "limit": 3, "filter_": None}
    with pytest.raises(QueryError) as caught:
        rank(base(tmp_path, cloud(20, 3)), **asked | change)
    assert caught.value.field == field


@pytest.mark.parametrize("bad", [np.zeros((1, 4), np.float32), np.full((1, 3), np.nan, np.float32)])
def test_refuses_invalid_queries_with_a_filter(tmp_path: Path, bad: Vectors) -> None:
    with pytest.raises(QueryError, match="embeddings"):
        rank(base(tmp_path, cloud(20, 3)), bad, 3, read_filter({"field": "i", "range": {"lt": 5}}))


def test_filters_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = base(tmp_path, cloud(20, 3))
    asked: list[object] = []

    def noting(table: object, given: object, **_: object) -> NDArray[np.bool_]:
        asked.append(given)
        return np.ones(20, bool)

    monkeypatch.setattr("lookalike.index.items.table.allowed", noting)
    for most in (3, 5, 3, 5):
        rank(made, cloud(1, 3), 2, read_filter({"field": "i", "range": {"lt": most}}))
    assert len(asked) == 2


@pytest.mark.parametrize("key", ["Flat", "IVF2,Flat"])
def test_embeddings_of_zeros_do_not_hide_more_similar_items(tmp_path: Path, key: str) -> None:
    """Zeros have the cosine 0, but a smaller distance, 1, than the items with the cosines 0.4, 0.3 and 0.2."""
    cosines = np.array([0.4, 0.3, 0.2], np.float32)
    others = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    found = base(tmp_path, np.concatenate([np.zeros((30, 2), np.float32), others]), "cosine", key=key)
    scores, positions = rank(found, np.array([[1, 0]], np.float32), 3)
    assert positions.tolist() == [[30, 31, 32]]
    np.testing.assert_allclose(scores, [cosines], rtol=1e-6)
