from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from index.errors import QueryError
from index.spec import KINDS, IndexSpec, Kind, Metric
from index.vectors import MAX_LIMIT, MAX_VALUE, VectorIndex, check_limit, drop_own, normalize
from tests.index.made import cloud
from training.errors import ArtifactError

METRICS: tuple[Metric, ...] = get_args(Metric)
each_kind = pytest.mark.parametrize("kind", list(KINDS))
each_metric = pytest.mark.parametrize("metric", METRICS)


def filled(kind: Kind, metric: Metric, vectors: NDArray[np.float32]) -> VectorIndex:
    index = VectorIndex(IndexSpec(kind, metric), vectors.shape[1])
    index.add(vectors)
    return index


def brute_force(metric: Metric, queries: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float64]:
    """(queries, items): every score, in float64 and in the metric's own unit."""
    q, x = queries.astype(np.float64), items.astype(np.float64)
    if metric == "l2":
        distances: NDArray[np.float64] = np.sqrt(((q[:, None, :] - x[None, :, :]) ** 2).sum(axis=2))
        return distances
    lengths = np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1)) if metric == "cosine" else 1.0
    scores: NDArray[np.float64] = q @ x.T / lengths
    return scores


@each_kind
@each_metric
@pytest.mark.parametrize(
    ("count", "dim", "k"), [(60, 17, 10), (60, 1, 10), (40, 2048, 5), (1, 3, 1), (1, 3, 10), (5, 2, MAX_LIMIT)]
)
def test_search_finds_what_brute_force_finds_in_the_metrics_unit(
    kind: Kind, metric: Metric, count: int, dim: int, k: int
) -> None:
    items, queries = cloud(count, dim), cloud(8, dim, seed=1)
    unit = normalize if metric == "cosine" else np.asarray
    scores, positions = filled(kind, metric, unit(items)).search(unit(queries), k)
    truth = brute_force(metric, queries, items)
    best = np.sort(truth, axis=1) if metric == "l2" else -np.sort(-truth, axis=1)
    assert scores.dtype == np.float32
    assert positions.shape == (8, min(k, count))
    np.testing.assert_allclose(scores, best[:, :k], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, np.take_along_axis(truth, positions, axis=1), rtol=1e-4, atol=1e-4)


def test_the_euclidean_score_is_the_distance_and_not_its_square() -> None:
    scores, positions = filled("flat", "l2", np.array([[3, 4], [0, 1]], np.float32)).search(
        np.zeros((1, 2), np.float32), 2
    )
    assert (scores.tolist(), positions.tolist()) == ([[1.0, 5.0]], [[1, 0]])


@pytest.mark.parametrize(("metric", "theirs"), [("cosine", "cosine"), ("l2", "euclidean")])
def test_search_agrees_with_scikit_learn(metric: Metric, theirs: str) -> None:
    items, queries = normalize(cloud(200, 12)), normalize(cloud(30, 12, seed=1))
    _, positions = filled("flat", metric, items).search(queries, 10)
    wanted = NearestNeighbors(n_neighbors=10, metric=theirs).fit(items).kneighbors(queries, return_distance=False)
    assert np.array_equal(positions, wanted)


@each_metric
def test_exact_search_of_a_graph_is_the_flat_indexs_search(metric: Metric) -> None:
    items, queries = normalize(cloud(500, 24)), normalize(cloud(20, 24, seed=1))
    scores, positions = filled("hnsw", metric, items).search_exactly(queries, 7)
    wanted_scores, wanted = filled("flat", metric, items).search(queries, 7)
    assert np.array_equal(positions, wanted)
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-6)


@each_kind
@each_metric
def test_equal_rows_are_items_of_their_own(kind: Kind, metric: Metric) -> None:
    items = normalize(np.repeat(cloud(3, 4), 4, axis=0))
    scores, positions = filled(kind, metric, items).search(items[4:5], 4)
    assert sorted(positions[0]) == [4, 5, 6, 7]
    np.testing.assert_allclose(scores, 0.0 if metric == "l2" else 1.0, atol=1e-6)


@each_kind
def test_an_empty_index_finds_nothing(kind: Kind) -> None:
    scores, positions = VectorIndex(IndexSpec(kind, "l2"), 3).search(np.zeros((2, 3), np.float32), 5)
    assert scores.shape == positions.shape == (2, 0)


def test_no_query_gets_no_answer() -> None:
    scores, positions = filled("flat", "l2", cloud(5, 3)).search(np.empty((0, 3), np.float32), 2)
    assert scores.shape == positions.shape == (0, 2)


@pytest.mark.parametrize("same", [np.asfortranarray, np.float64, lambda q: np.repeat(q, 2, axis=1)[:, ::2]])
def test_queries_laid_out_otherwise_find_the_same(same: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    index, queries = filled("flat", "ip", cloud(50, 6)), cloud(4, 6, seed=1)
    wanted_scores, wanted = index.search(queries, 3)
    scores, positions = index.search(same(queries), 3)
    assert np.array_equal(positions, wanted)
    assert np.array_equal(scores, wanted_scores)


@each_kind
@pytest.mark.parametrize("act", ["add", "search", "search_exactly"])
@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 2)),
        np.zeros((1, 4)),
        np.zeros(3),
        np.zeros((1, 1, 3)),
        np.array([[0, np.nan, 0]]),
        np.array([[0, np.inf, 0]]),
        np.array([[0, 0, 0], [0, 0, -np.inf]]),
        np.array([[0, 2 * MAX_VALUE, 0]]),
        np.array([[0, -2 * MAX_VALUE, 0]]),
    ],
    ids=str,
)
def test_vectors_that_faiss_would_take_wrongly_are_refused(kind: Kind, act: str, bad: NDArray[np.float64]) -> None:
    index = filled(kind, "l2", cloud(5, 3))
    with pytest.raises(QueryError) as caught:
        getattr(index, act)(bad.astype(np.float32), *([] if act == "add" else [1]))
    assert caught.value.field == "embeddings"
    assert len(index) == 5


@each_kind
@each_metric
def test_the_largest_values_allowed_are_still_found(kind: Kind, metric: Metric) -> None:
    index = filled(kind, metric, np.full((1, 2048), -MAX_VALUE, np.float32))
    scores, positions = index.search(np.full((1, 2048), MAX_VALUE, np.float32), 1)
    assert positions.tolist() == [[0]]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("k", [0, -1, MAX_LIMIT + 1, 10**9])
def test_a_limit_out_of_bounds_is_refused(k: int) -> None:
    index = filled("flat", "l2", cloud(5, 3))
    for search in (index.search, index.search_exactly):
        with pytest.raises(QueryError, match=f"from 1 to {MAX_LIMIT}, found {k}"):
            search(cloud(1, 3), k)


@given(st.integers(-5, 25), st.integers(1, 20))
def test_a_limit_is_right_between_1_and_the_most(limit: int, most: int) -> None:
    if 1 <= limit <= most:
        check_limit(limit, most)
    else:
        with pytest.raises(QueryError):
            check_limit(limit, most)


@each_kind
def test_reconstruct_gives_what_was_added_at_each_position(kind: Kind) -> None:
    items = cloud(20, 3)
    index = filled(kind, "l2", items[:15])
    index.add(items[15:])
    asked = np.array([19, 0, 7, 7])
    assert np.array_equal(index.reconstruct(asked), items[asked])
    assert index.reconstruct(np.empty(0, np.int64)).shape == (0, 3)


@each_kind
@pytest.mark.parametrize("position", [-1, 20, 10**12])
def test_reconstruct_never_reads_past_the_items(kind: Kind, position: int) -> None:
    with pytest.raises(QueryError, match="from 0 to 19"):
        filled(kind, "l2", cloud(20, 3)).reconstruct(np.array([0, position]))


@each_kind
@each_metric
def test_an_index_comes_back_from_its_file(kind: Kind, metric: Metric, tmp_path: Path) -> None:
    index = filled(kind, metric, normalize(cloud(50, 6)))
    index.write(tmp_path / "index")
    again = VectorIndex.read(tmp_path / "index", index.spec, 6)
    queries = normalize(cloud(4, 6, seed=1))
    (scores, positions), (wanted_scores, wanted) = again.search(queries, 5), index.search(queries, 5)
    assert np.array_equal(positions, wanted)
    assert np.array_equal(scores, wanted_scores)
    assert len(again) == 50


@pytest.mark.parametrize(
    ("spec", "dim"),
    [(IndexSpec("hnsw", "l2"), 3), (IndexSpec("flat", "ip"), 3), (IndexSpec("flat", "l2"), 4)],
    ids=["another kind", "another metric", "another width"],
)
def test_an_index_that_is_not_the_one_described_is_refused(spec: IndexSpec, dim: int, tmp_path: Path) -> None:
    filled("flat", "l2", cloud(5, 3)).write(tmp_path / "index")
    with pytest.raises(ArtifactError, match=r"index: expected .*found IndexFlatL2, 3 dimensions"):
        VectorIndex.read(tmp_path / "index", spec, dim)


@pytest.mark.parametrize("keep", [0, 12, -1], ids=["empty", "a part", "all but one byte"])
def test_a_file_that_is_no_index_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "index"
    filled("flat", "l2", cloud(5, 3)).write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="index: expected a FAISS index"):
        VectorIndex.read(path, IndexSpec("flat", "l2"), 3)


@pytest.mark.parametrize(
    ("found", "own", "k", "kept"),
    [
        ([7, 5, 9], 7, 2, [5, 9]),
        ([5, 7, 9], 7, 2, [5, 9]),
        ([5, 9, 7], 7, 2, [5, 9]),
        ([5, 9, 8], 7, 2, [5, 9]),
        ([5, 9, 8], -1, 2, [5, 9]),
        ([7, 5], 7, 4, [5, -1]),
        ([7], 7, 1, [-1]),
        ([5, 7, -1], 7, 2, [5, -1]),
        ([5, -1, -1], -1, 2, [5, -1]),
    ],
    ids=["first", "middle", "last", "missed", "none", "few items", "only itself", "few hits", "few hits, none own"],
)
def test_drop_own_takes_a_query_out_of_its_own_hits(found: list[int], own: int, k: int, kept: list[int]) -> None:
    scores = {position: 1.0 / (1 + place) for place, position in enumerate(found)}
    given_scores = np.array([[scores[p] for p in found]])
    left, positions = drop_own(given_scores.astype(np.float32), np.array([found]), np.array([own]), k)
    assert positions.tolist() == [kept]
    hits = [p for p in kept if p >= 0]
    assert left[0, : len(hits)].tolist() == [np.float32(scores[p]) for p in hits]


def test_drop_own_treats_each_query_by_itself() -> None:
    scores = np.array([[3, 2, 1], [6, 5, 4]], np.float32)
    left, positions = drop_own(scores, np.array([[0, 1, 2], [0, 1, 2]]), np.array([0, 2]), 2)
    assert positions.tolist() == [[1, 2], [0, 1]]
    assert left.tolist() == [[2, 1], [6, 5]]


@given(arrays(np.float32, (3, 4), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_a_normalised_row_has_unit_length_and_its_direction_whatever_its_size(rows: NDArray[np.float32]) -> None:
    unit = normalize(rows)
    exact = rows.astype(np.float64)
    lengths = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0), atol=1e-6)


def test_a_zero_row_stays_zero() -> None:
    assert normalize(np.zeros((2, 3), np.float32)).tolist() == [[0.0] * 3] * 2
