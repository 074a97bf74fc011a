from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann import embeddings as module
from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import nearest
from lookalike.index.errors import QueryError
from lookalike.training.errors import ArtifactError
from tests.factories import cloud

METRICS: tuple[Metric, ...] = get_args(Metric)
SKLEARN_METRICS = {"cosine": "cosine", "l2": "euclidean", "ip": lambda one, other: -float(one @ other)}
each_metric = pytest.mark.parametrize("metric", METRICS)

Vectors = NDArray[np.float32]


def for_metric(metric: Metric, vectors: Vectors) -> Vectors:
    return normalize(vectors) if metric == "cosine" else vectors


def exact(metric: Metric, queries: Vectors, items: Vectors) -> NDArray[np.float64]:
    """(queries, items) in float64."""
    q, x = queries.astype(np.float64), items.astype(np.float64)
    scores: NDArray[np.float64] = np.linalg.norm(q[:, None] - x, axis=2) if metric == "l2" else q @ x.T
    return scores


@pytest.fixture(params=[1, 7 * 9, 1 << 24], ids=["1 row", "9 rows", "all"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of values of 7-dimensional embeddings in a block."""
    values: int = request.param
    monkeypatch.setattr(module, "BLOCK_VALUES", values)
    return values


@each_metric
@pytest.mark.parametrize("k", [1, 10, 120])
def test_nearest_agrees_with_scikit_learn(metric: Metric, k: int, block: int) -> None:
    items, queries = for_metric(metric, cloud(120, 7)), for_metric(metric, cloud(9, 7, seed=1))
    expected = NearestNeighbors(n_neighbors=k, metric=SKLEARN_METRICS[metric], algorithm="brute").fit(items)
    scores, positions = Embeddings(items, metric).nearest(queries, k)
    assert np.array_equal(positions, expected.kneighbors(queries, return_distance=False))
    np.testing.assert_allclose(scores, np.take_along_axis(exact(metric, queries, items), positions, axis=1), atol=1e-5)


@each_metric
@pytest.mark.parametrize("count", [1, 5, 50])
def test_nearest_among_positions_equals_a_search_of_these_items_alone(metric: Metric, count: int, block: int) -> None:
    items, queries = for_metric(metric, cloud(120, 7)), for_metric(metric, cloud(9, 7, seed=1))
    some = np.sort(np.random.default_rng(2).permutation(120)[:count])
    scores, positions = Embeddings(items, metric).nearest(queries, 10, some)
    alone, expected = Embeddings(items[some], metric).nearest(queries, 10)
    assert positions.shape == (9, min(10, count))
    assert np.array_equal(positions, some[expected])
    np.testing.assert_allclose(scores, alone, atol=1e-6)


def test_nearest_among_no_positions_is_empty() -> None:
    scores, positions = Embeddings(cloud(5, 3), "l2").nearest(cloud(2, 3), 4, np.empty(0, np.int64))
    assert scores.shape == positions.shape == (2, 0)


@each_metric
def test_nearest_returns_all_items_if_k_is_larger(metric: Metric) -> None:
    _, positions = Embeddings(for_metric(metric, cloud(5, 3)), metric).nearest(
        for_metric(metric, cloud(2, 3, seed=1)), 9
    )
    assert [sorted(row) for row in positions.tolist()] == [[0, 1, 2, 3, 4]] * 2


@each_metric
def test_scores_are_float64_values_rounded_once(metric: Metric, block: int) -> None:
    items, queries = for_metric(metric, cloud(60, 7)), for_metric(metric, cloud(9, 7, seed=1))
    positions = np.random.default_rng(3).integers(0, 60, (9, 4))
    scores = Embeddings(items, metric).scores(queries, positions)
    expected = np.take_along_axis(exact(metric, queries, items), positions, axis=1)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=2e-7, atol=1e-8)


def test_scores_are_exact_and_nan_for_no_hit() -> None:
    items = np.array([[3, 4], [0, 2]], np.float32)
    queries, positions = np.array([[0, 0], [0, 1]], np.float32), np.array([[0, 1, -1], [-1, 0, 1]])
    distances = Embeddings(items, "l2").scores(queries, positions)
    np.testing.assert_array_equal(distances, np.array([[5, 2, np.nan], [np.nan, np.sqrt(18), 1]], np.float32))
    products = Embeddings(items, "ip").scores(queries, positions)
    np.testing.assert_array_equal(products, np.array([[0, 0, np.nan], [np.nan, 4, 2]], np.float32))


def test_keeps_a_small_distance_far_from_zero() -> None:
    """A float32 matrix product would lose it: next to 1e6², 0.25² is below the precision of float32."""
    items = np.array([[1e6, 0], [1e6 + 0.25, 0]], np.float32)
    assert Embeddings(items, "l2").scores(items[:1], np.array([[1, 0]])).tolist() == [[0.25, 0.0]]


@each_metric
@pytest.mark.parametrize("scores_at_a_time", [1, 100, 1 << 26])
def test_torch_finds_the_same_as_faiss(metric: Metric, scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_SCORES", scores_at_a_time)
    items, queries = for_metric(metric, cloud(200, 7)), for_metric(metric, cloud(9, 7, seed=1))
    for k in (1, 10, 200):
        scores, positions = module._nearest_on(torch.device("cpu"), queries, items, k, metric)
        wanted_scores, expected = nearest(queries, items, k, metric)
        assert np.array_equal(positions, expected)
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
        assert (scores.dtype, positions.dtype) == (wanted_scores.dtype, expected.dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_metric
def test_a_cuda_device_finds_the_same_as_faiss(metric: Metric) -> None:
    items, queries = for_metric(metric, cloud(2_000, 32)), for_metric(metric, cloud(50, 32, seed=1))
    _, positions = Embeddings(items, metric).nearest(queries, 10)
    assert np.array_equal(positions, nearest(queries, items, 10, metric)[1])


def test_at_returns_copies() -> None:
    items = cloud(20, 3)
    embeddings, positions = Embeddings(items, "l2"), np.array([19, 0, 7, 7])
    copy = embeddings.at(positions)
    assert np.array_equal(copy, items[positions])
    copy[:] = 0
    assert np.array_equal(embeddings.at(positions), items[positions])
    assert embeddings.at(np.empty(0, np.int64)).shape == (0, 3)


@pytest.mark.parametrize("position", [-1, 20, 10**12])
def test_at_refuses_positions_out_of_range(position: int) -> None:
    with pytest.raises(QueryError, match="positions: expected from 0 to 19"):
        Embeddings(cloud(20, 3), "l2").at(np.array([0, position]))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5))
def test_a_sample_has_ascending_positions(count: int, size: int, seed: int) -> None:
    sampled = Embeddings(np.zeros((count, 1), np.float32), "l2").sample(size, seed)
    assert len(sampled) == min(count, size)
    assert (np.diff(sampled) >= 0).all()
    assert sampled[0] >= 0
    assert sampled[-1] < count
    assert np.array_equal(sampled, Embeddings(np.zeros((count, 1), np.float32), "l2").sample(size, seed))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5))
def test_a_sample_has_no_duplicates(count: int, size: int, seed: int) -> None:
    sampled = Embeddings(np.zeros((count, 1), np.float32), "l2").sample(size, seed)
    assert len(set(sampled.tolist())) == len(sampled)


def test_a_sample_covers_all_parts() -> None:
    sampled = Embeddings(np.zeros((10_000, 1), np.float32), "l2").sample(1_000, seed=0)
    assert np.histogram(sampled, bins=10, range=(0, 10_000))[0].min() > 60


def test_blocks_contain_all_embeddings_in_order(block: int) -> None:
    items = cloud(60, 7)
    parts = list(Embeddings(items, "l2").blocks())
    assert np.array_equal(np.concatenate([places for places, _ in parts]), np.arange(60))
    assert np.array_equal(np.concatenate([vectors for _, vectors in parts]), items)
    assert len(parts[0][0]) == min(60, max(1, block // 7))
    some = np.array([3, 50, 4])
    parts = list(Embeddings(items, "l2").blocks(some))
    assert np.array_equal(np.concatenate([places for places, _ in parts]), some)
    assert np.array_equal(np.concatenate([vectors for _, vectors in parts]), items[some])


def test_head_returns_the_first_embeddings() -> None:
    head = Embeddings(cloud(20, 3), "ip").head(4)
    assert (len(head), head.dim, head.metric) == (4, 3, "ip")
    assert np.array_equal(head.at(np.arange(4)), cloud(20, 3)[:4])


def test_maps_embeddings_from_their_file(tmp_path: Path) -> None:
    np.save(tmp_path / EMBEDDINGS, cloud(20, 3))
    embeddings = read_embeddings(tmp_path, "l2", 3)
    assert (len(embeddings), embeddings.dim, embeddings.metric) == (20, 3, "l2")
    assert np.array_equal(embeddings.at(np.arange(20)), cloud(20, 3))
    assert isinstance(embeddings.vectors, np.memmap)
    _, positions = embeddings.nearest(cloud(20, 3), 1)
    assert positions[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize(
    "array", [np.zeros((4, 3)), np.zeros((4, 2), np.float32), np.zeros(3, np.float32), np.zeros((4, 3, 1), np.float32)]
)
def test_refuses_a_file_of_another_shape_or_type(tmp_path: Path, array: NDArray[np.float64]) -> None:
    np.save(tmp_path / EMBEDDINGS, array)
    with pytest.raises(ArtifactError, match=r"embeddings\.npy: expected float32 \(n, 3\), found"):
        read_embeddings(tmp_path, "l2", 3)


def test_cosine_scores_stay_within_bounds() -> None:
    """Rounded to float32, a unit vector may be longer than 1, and its product with itself larger than 1."""
    vectors = normalize(np.random.default_rng(0).normal(size=(2_000, 3)).astype(np.float32))
    places = np.arange(len(vectors))[:, None]
    for sign in (1, -1):
        queries = sign * vectors
        scores = Embeddings(vectors, "cosine").scores(queries, places)
        near = Embeddings(vectors, "cosine").nearest(queries, 5)[0]
        assert np.abs(scores).max() <= 1
        assert np.abs(near).max() <= 1
        np.testing.assert_allclose(scores, sign, atol=1e-6)
