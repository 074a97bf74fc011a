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
THEIRS = {"cosine": "cosine", "l2": "euclidean", "ip": lambda one, other: -float(one @ other)}
each_metric = pytest.mark.parametrize("metric", METRICS)

Vectors = NDArray[np.float32]


def as_asked(metric: Metric, vectors: Vectors) -> Vectors:
    return normalize(vectors) if metric == "cosine" else vectors


def exact(metric: Metric, queries: Vectors, items: Vectors) -> NDArray[np.float64]:
    """(queries, items) in float64."""
    q, x = queries.astype(np.float64), items.astype(np.float64)
    scores: NDArray[np.float64] = np.linalg.norm(q[:, None] - x, axis=2) if metric == "l2" else q @ x.T
    return scores


@pytest.fixture(params=[1, 7 * 9, 1 << 24], ids=["a row", "9 rows", "all"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many values of 7-dimensional embeddings are read at a time."""
    values: int = request.param
    monkeypatch.setattr(module, "BLOCK_VALUES", values)
    return values


@each_metric
@pytest.mark.parametrize("k", [1, 10, 120])
def test_the_nearest_are_scikit_learns(metric: Metric, k: int, block: int) -> None:
    items, queries = as_asked(metric, cloud(120, 7)), as_asked(metric, cloud(9, 7, seed=1))
    wanted = NearestNeighbors(n_neighbors=k, metric=THEIRS[metric], algorithm="brute").fit(items)
    scores, positions = Embeddings(items, metric).nearest(queries, k)
    assert np.array_equal(positions, wanted.kneighbors(queries, return_distance=False))
    np.testing.assert_allclose(scores, np.take_along_axis(exact(metric, queries, items), positions, axis=1), atol=1e-5)


@each_metric
@pytest.mark.parametrize("count", [1, 5, 50])
def test_the_nearest_among_some_are_those_of_an_index_of_these_alone(metric: Metric, count: int, block: int) -> None:
    items, queries = as_asked(metric, cloud(120, 7)), as_asked(metric, cloud(9, 7, seed=1))
    some = np.sort(np.random.default_rng(2).permutation(120)[:count])
    scores, positions = Embeddings(items, metric).nearest(queries, 10, some)
    alone, wanted = Embeddings(items[some], metric).nearest(queries, 10)
    assert positions.shape == (9, min(10, count))
    assert np.array_equal(positions, some[wanted])
    np.testing.assert_allclose(scores, alone, atol=1e-6)


def test_among_none_there_is_nothing() -> None:
    scores, positions = Embeddings(cloud(5, 3), "l2").nearest(cloud(2, 3), 4, np.empty(0, np.int64))
    assert scores.shape == positions.shape == (2, 0)


@each_metric
def test_more_than_there_are_are_all(metric: Metric) -> None:
    _, positions = Embeddings(as_asked(metric, cloud(5, 3)), metric).nearest(as_asked(metric, cloud(2, 3, seed=1)), 9)
    assert [sorted(row) for row in positions.tolist()] == [[0, 1, 2, 3, 4]] * 2


@each_metric
def test_scores_are_float64s_rounded_once(metric: Metric, block: int) -> None:
    items, queries = as_asked(metric, cloud(60, 7)), as_asked(metric, cloud(9, 7, seed=1))
    positions = np.random.default_rng(3).integers(0, 60, (9, 4))
    scores = Embeddings(items, metric).scores(queries, positions)
    wanted = np.take_along_axis(exact(metric, queries, items), positions, axis=1)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, wanted, rtol=2e-7, atol=1e-8)


def test_scores_by_hand_and_no_hit_has_none() -> None:
    items = np.array([[3, 4], [0, 2]], np.float32)
    queries, positions = np.array([[0, 0], [0, 1]], np.float32), np.array([[0, 1, -1], [-1, 0, 1]])
    distances = Embeddings(items, "l2").scores(queries, positions)
    np.testing.assert_array_equal(distances, np.array([[5, 2, np.nan], [np.nan, np.sqrt(18), 1]], np.float32))
    products = Embeddings(items, "ip").scores(queries, positions)
    np.testing.assert_array_equal(products, np.array([[0, 0, np.nan], [np.nan, 4, 2]], np.float32))


def test_two_points_a_hair_apart_far_from_zero_keep_their_distance() -> None:
    """A float32 matrix product would lose it: 1e6² has no room for 0.25²."""
    items = np.array([[1e6, 0], [1e6 + 0.25, 0]], np.float32)
    assert Embeddings(items, "l2").scores(items[:1], np.array([[1, 0]])).tolist() == [[0.25, 0.0]]


@each_metric
@pytest.mark.parametrize("scores_at_a_time", [1, 100, 1 << 26])
def test_torch_finds_what_faiss_finds(metric: Metric, scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_SCORES", scores_at_a_time)
    items, queries = as_asked(metric, cloud(200, 7)), as_asked(metric, cloud(9, 7, seed=1))
    for k in (1, 10, 200):
        scores, positions = module._nearest_on(torch.device("cpu"), queries, items, k, metric)
        wanted_scores, wanted = nearest(queries, items, k, metric)
        assert np.array_equal(positions, wanted)
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
        assert (scores.dtype, positions.dtype) == (wanted_scores.dtype, wanted.dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_metric
def test_a_cuda_device_finds_the_same(metric: Metric) -> None:
    items, queries = as_asked(metric, cloud(2_000, 32)), as_asked(metric, cloud(50, 32, seed=1))
    _, positions = Embeddings(items, metric).nearest(queries, 10)
    assert np.array_equal(positions, nearest(queries, items, 10, metric)[1])


def test_at_copies_what_stands_there() -> None:
    items = cloud(20, 3)
    embeddings, asked = Embeddings(items, "l2"), np.array([19, 0, 7, 7])
    got = embeddings.at(asked)
    assert np.array_equal(got, items[asked])
    got[:] = 0
    assert np.array_equal(embeddings.at(asked), items[asked])
    assert embeddings.at(np.empty(0, np.int64)).shape == (0, 3)


@pytest.mark.parametrize("position", [-1, 20, 10**12])
def test_at_never_reads_past_the_items(position: int) -> None:
    with pytest.raises(QueryError, match="positions: expected from 0 to 19"):
        Embeddings(cloud(20, 3), "l2").at(np.array([0, position]))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5))
def test_a_sample_is_of_positions_in_order(count: int, wanted: int, seed: int) -> None:
    drawn = Embeddings(np.zeros((count, 1), np.float32), "l2").sample(wanted, seed)
    assert len(drawn) == min(count, wanted)
    assert (np.diff(drawn) >= 0).all()
    assert drawn[0] >= 0
    assert drawn[-1] < count
    assert np.array_equal(drawn, Embeddings(np.zeros((count, 1), np.float32), "l2").sample(wanted, seed))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 5))
def test_no_position_is_drawn_twice(count: int, wanted: int, seed: int) -> None:
    drawn = Embeddings(np.zeros((count, 1), np.float32), "l2").sample(wanted, seed)
    assert len(set(drawn.tolist())) == len(drawn)


def test_a_sample_is_drawn_from_everywhere() -> None:
    drawn = Embeddings(np.zeros((10_000, 1), np.float32), "l2").sample(1_000, seed=0)
    assert np.histogram(drawn, bins=10, range=(0, 10_000))[0].min() > 60


def test_blocks_are_all_of_them_in_order(block: int) -> None:
    items = cloud(60, 7)
    parts = list(Embeddings(items, "l2").blocks())
    assert np.array_equal(np.concatenate([places for places, _ in parts]), np.arange(60))
    assert np.array_equal(np.concatenate([vectors for _, vectors in parts]), items)
    assert len(parts[0][0]) == min(60, max(1, block // 7))
    some = np.array([3, 50, 4])
    parts = list(Embeddings(items, "l2").blocks(some))
    assert np.array_equal(np.concatenate([places for places, _ in parts]), some)
    assert np.array_equal(np.concatenate([vectors for _, vectors in parts]), items[some])


def test_the_head_is_the_first_ones() -> None:
    head = Embeddings(cloud(20, 3), "ip").head(4)
    assert (len(head), head.dim, head.metric) == (4, 3, "ip")
    assert np.array_equal(head.at(np.arange(4)), cloud(20, 3)[:4])


def test_they_are_mapped_from_their_file(tmp_path: Path) -> None:
    np.save(tmp_path / EMBEDDINGS, cloud(20, 3))
    embeddings = read_embeddings(tmp_path, "l2", 3)
    assert (len(embeddings), embeddings.dim, embeddings.metric) == (20, 3, "l2")
    assert np.array_equal(embeddings.at(np.arange(20)), cloud(20, 3))
    assert isinstance(embeddings._vectors, np.memmap)
    _, positions = embeddings.nearest(cloud(20, 3), 1)
    assert positions[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 3)), np.zeros((4, 2), np.float32), np.zeros(3, np.float32), np.zeros((4, 3, 1), np.float32)]
)
def test_a_file_of_other_embeddings_is_refused(tmp_path: Path, wrong: NDArray[np.float64]) -> None:
    np.save(tmp_path / EMBEDDINGS, wrong)
    with pytest.raises(ArtifactError, match=r"embeddings\.npy: expected float32 \(n, 3\), found"):
        read_embeddings(tmp_path, "l2", 3)


def test_a_cosine_never_leaves_its_bounds() -> None:
    """Rounded to float32, a unit vector may be longer than 1, and its product with itself greater than 1."""
    vectors = normalize(np.random.default_rng(0).normal(size=(2_000, 3)).astype(np.float32))
    places = np.arange(len(vectors))[:, None]
    for sign in (1, -1):
        queries = sign * vectors
        scores = Embeddings(vectors, "cosine").scores(queries, places)
        near = Embeddings(vectors, "cosine").nearest(queries, 5)[0]
        assert np.abs(scores).max() <= 1
        assert np.abs(near).max() <= 1
        np.testing.assert_allclose(scores, sign, atol=1e-6)
