"""Tests of every index that the tuner can choose, and of some that a user may specify."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import get_args

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.candidates import KINDS
from lookalike.index.ann.scores import drop_self, normalize
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import MAX_VALUE, VectorIndex, near_pairs, nearest, one_thread
from lookalike.index.errors import QueryError
from lookalike.index.limits import MAX_FOUND, MAX_LIMIT, check_limit
from lookalike.training.errors import ArtifactError, ConfigError
from tests.factories import cloud

COUNT, DIM = 300, 16
USER_KEYS = ("IVF4,Flat", "HNSW8", "RR16,Flat", "PQ4x4fs,RFlat", "SQ8")
"""Keys that a user may specify."""
COARSE_CODES = ("SQ8", "HNSW32_SQ8")
"""Keys with only 8 bits per value, which cannot distinguish near items."""
CENTROIDS = 16
"""The centroids of a 4-bit code: a product quantizer needs at least this many training vectors."""


def kinds_for(count: int, dim: int) -> list[str]:
    """The keys of all kinds of the tuner for `count` vectors, also of kinds that need more vectors to be useful."""
    keys = dict.fromkeys(kind.key_for(count, dim) for kind in KINDS if not (kind.even and dim % 2))
    return [key for key in keys if count >= CENTROIDS or "PQ" not in key]


METRICS: tuple[Metric, ...] = get_args(Metric)
TUNER_KEYS = kinds_for(COUNT, DIM)
each_key = pytest.mark.parametrize("key", [*TUNER_KEYS, *USER_KEYS])
each_metric = pytest.mark.parametrize("metric", METRICS)

Vectors = NDArray[np.float32]


def filled(key: str, metric: Metric, vectors: Vectors) -> VectorIndex:
    """An index of the vectors whose search is exhaustive."""
    index = VectorIndex(IndexSpec(key, metric), vectors.shape[1])
    index.train(vectors)
    index.add(vectors)
    return everywhere(index)


def everywhere(index: VectorIndex) -> VectorIndex:
    grids = index.search_params.grids().items()
    index.set_search(",".join(f"{name}={min(values[-1], len(index))}" for name, values in grids))
    return index


def for_metric(metric: Metric, vectors: Vectors) -> Vectors:
    return normalize(vectors) if metric == "cosine" else vectors


def brute_force(metric: Metric, queries: Vectors, items: Vectors) -> NDArray[np.float64]:
    """All scores, (queries, items), in float64 and in the metric's unit."""
    q, x = queries.astype(np.float64), items.astype(np.float64)
    if metric == "l2":
        distances: NDArray[np.float64] = np.sqrt(((q[:, None, :] - x[None, :, :]) ** 2).sum(axis=2))
        return distances
    lengths = np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1)) if metric == "cosine" else 1.0
    scores: NDArray[np.float64] = q @ x.T / lengths
    return scores


def best_of(metric: Metric, truth: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    best: NDArray[np.float64] = np.sort(truth if metric == "l2" else -truth, axis=1)[:, :k]
    return best if metric == "l2" else -best


def assert_nearest(key: str, metric: Metric, truth: NDArray[np.float64], positions: NDArray[np.int64], k: int) -> None:
    """Assert that all hits differ and are as near as the true nearest; with coarse codes, nearly all of them."""
    assert all(len(set(row)) == len(row) for row in positions.tolist())
    assert ((positions >= 0) & (positions < truth.shape[1])).all()
    found, best = np.take_along_axis(truth, positions, axis=1), best_of(metric, truth, k)
    if key.endswith(COARSE_CODES):
        last = best[:, -1:]
        assert ((found <= last + 1e-5) if metric == "l2" else (found >= last - 1e-5)).mean() >= 0.85
    else:
        np.testing.assert_allclose(best_of(metric, found, k), best, rtol=1e-3, atol=1e-3)


def test_covers_all_kinds_of_the_tuner() -> None:
    assert len(TUNER_KEYS) == len({kind.key for kind in KINDS})


@each_key
@each_metric
def test_an_index_finds_the_nearest(key: str, metric: Metric) -> None:
    items, queries = for_metric(metric, cloud(COUNT, DIM)), for_metric(metric, cloud(8, DIM, seed=1))
    scores, positions = filled(key, metric, items).search(queries, 10)
    assert scores.shape == positions.shape == (8, 10)
    assert (scores.dtype.str, positions.dtype.str) == ("<f4", "<i8")
    assert_nearest(key, metric, brute_force(metric, queries, items), positions, 10)


@each_key
def test_neighbors_on_a_line(key: str) -> None:
    """Items at the whole numbers of the first axis; the queries are 41.2 and 120.9."""
    items, queries = np.zeros((COUNT, DIM), np.float32), np.zeros((2, DIM), np.float32)
    items[:, 0], queries[:, 0] = np.arange(COUNT), [41.2, 120.9]
    scores, positions = filled(key, "l2", items).search(queries, 3)
    near = items[positions, 0]
    far = 2.5 if key.endswith(COARSE_CODES) else 1e-3 + np.array([[0.2, 0.8, 1.2], [0.1, 0.9, 1.1]])
    assert (np.abs(near - queries[:, :1]) <= far).all()
    np.testing.assert_allclose(scores, np.abs(near - queries[:, :1]), atol=1.2)


@pytest.mark.parametrize(
    ("key", "count", "dim"),
    [(key, count, dim) for count, dim in [(300, 1), (120, 2_048), (17, 4), (1, 4)] for key in kinds_for(count, dim)],
)
@each_metric
def test_extreme_numbers_of_dimensions_and_items(key: str, metric: Metric, count: int, dim: int) -> None:
    items, queries = for_metric(metric, cloud(count, dim)), for_metric(metric, cloud(8, dim, seed=1))
    scores, positions = filled(key, metric, items).search(queries, 10)
    assert scores.shape == positions.shape == (8, min(10, count))
    assert_nearest(key, metric, brute_force(metric, queries, items), positions, min(10, count))


@each_key
@pytest.mark.parametrize("k", [COUNT, COUNT + 1, MAX_FOUND])
def test_returns_all_items_if_k_is_larger(key: str, k: int) -> None:
    index = filled(key, "l2", cloud(COUNT, DIM))
    scores, positions = index.search(cloud(2, DIM, seed=1), k)
    assert positions.shape == scores.shape == (2, COUNT)
    for row in positions:
        hits = row[row >= 0]
        assert len(set(hits)) == len(hits) >= 0.95 * COUNT  # a graph may not reach every item


@each_key
@each_metric
def test_equal_rows_are_separate_items(key: str, metric: Metric) -> None:
    items = np.concatenate([normalize(cloud(COUNT - 4, DIM)), np.tile(normalize(cloud(1, DIM, seed=1)), (4, 1))])
    scores, positions = filled(key, metric, items).search(items[-1:], 4)
    assert sorted(positions[0]) == [COUNT - 4, COUNT - 3, COUNT - 2, COUNT - 1]
    assert np.ptp(scores) < 1e-6


@each_key
def test_finds_k_copies_of_the_only_row(key: str) -> None:
    index = filled(key, "l2", np.ones((COUNT, DIM), np.float32))
    _, positions = index.search(np.ones((1, DIM), np.float32), 10)
    hits = positions[positions >= 0]
    assert len(set(hits)) == len(hits)
    assert len(hits) == 10


def clustered(count: int) -> Vectors:
    """(count, DIM) unit vectors around 50 centers."""
    random = np.random.default_rng(3)
    around = random.standard_normal((50, DIM))[random.integers(0, 50, count)]
    return normalize((around + 0.4 * random.standard_normal((count, DIM))).astype(np.float32))


SELECTIVE = (
    "IVF256,SQfp16",
    "IVF256,SQ8",
    "RR16,IVF256,Flat",
    "IVF256,PQ8x4fs,RFlat",
    "IVF256,RaBitQfs,RFlat",
    "HNSW16",
)


@pytest.mark.parametrize("metric", ["cosine", "ip"])
@pytest.mark.parametrize("key", SELECTIVE)
def test_settled_filtered_searches_are_correct(key: str, metric: Metric, tmp_path: Path) -> None:
    """In the index as built, and as mapped from its file."""
    items, queries = clustered(20_000), clustered(20_100)[20_000:]
    built = VectorIndex(IndexSpec(key, metric), DIM)
    built.train(items)
    built.add(items)
    built.set_search(",".join(f"{name}=4" for name in built.search_params.grids()))
    built.write(tmp_path / "index")
    index = VectorIndex.read(tmp_path / "index", built.spec, DIM, len(built))
    chance = np.random.default_rng(4).random(len(items)) < 0.5
    for allowed in (chance, items[:, 0] < np.quantile(items[:, 0], 1 / 3), items[:, 0] > -0.2):
        positions, settled = index.search_among(queries, 10, index.select(allowed))
        again, same = built.search_among(queries, 10, built.select(allowed))
        assert np.array_equal(positions, again)
        assert np.array_equal(settled, same)
        assert settled.mean() > 0.2
        truth = np.flatnonzero(allowed)[nearest(queries, items[allowed], 10, metric)[1]]
        right = [len(set(row) & set(best)) / 10 for row, best in zip(positions[settled], truth[settled], strict=True)]
        assert np.mean(right) >= 0.95
        assert allowed[positions[settled]].all()


@each_key
@pytest.mark.parametrize("some", [0, 1, COUNT])
def test_settles_nothing_if_exhaustive_comparison_is_as_fast(key: str, some: int) -> None:
    """For 300 items, a filtered search is never worthwhile, least of all in an index with an exhaustive search."""
    index = filled(key, "l2", cloud(COUNT, DIM))
    positions, settled = index.search_among(cloud(2, DIM, seed=1), 3, index.select(np.arange(COUNT) < some))
    assert positions.shape == (2, 3)
    assert not settled.any()


def test_one_search_alone_settles_nothing() -> None:
    """Two searches must agree, and the second would visit more than half of the lists."""
    items = cloud(4_000, DIM)
    index = VectorIndex(IndexSpec("IVF40,Flat", "l2", "nprobe=12"), DIM)
    index.train(items)
    index.add(items)
    positions, settled = index.search_among(items[:5], 100, index.select(np.ones(4_000, bool)))
    assert (positions[:, 0] == np.arange(5)).all()
    assert not settled.any()


@each_key
@each_metric
def test_an_index_round_trips_through_its_file(key: str, metric: Metric, tmp_path: Path) -> None:
    index = filled(key, metric, for_metric(metric, cloud(COUNT, DIM)))
    index.write(tmp_path / "index")
    assert index.bytes == (tmp_path / "index").stat().st_size
    again = VectorIndex.read(tmp_path / "index", index.spec, DIM, len(index))
    queries = for_metric(metric, cloud(8, DIM, seed=1))
    for (scores, positions), (expected_scores, expected) in [
        (again.search(queries, 7), index.search(queries, 7)),
        (again.search(queries[:1], COUNT), index.search(queries[:1], COUNT)),
    ]:
        np.testing.assert_array_equal(positions, expected)
        np.testing.assert_array_equal(scores, expected_scores)
    assert (len(again), again.spec, again.dim) == (COUNT, index.spec, DIM)


@each_key
def test_the_same_vectors_make_the_same_file(key: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        filled(key, "l2", cloud(COUNT, DIM)).write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("key", TUNER_KEYS)
def test_finds_items_added_later(key: str) -> None:
    """Held-out rows are added to an index after it was measured without them."""
    items = cloud(COUNT, DIM)
    index = VectorIndex(IndexSpec(key, "l2"), DIM)
    index.train(items[:270])
    index.add(items[:270])
    index.add(items[270:])
    everywhere(index)
    assert len(index) == COUNT
    _, positions = index.search(items[270:], 1)
    assert (positions[:, 0] == np.arange(270, COUNT)).mean() >= (0.9 if key.endswith(COARSE_CODES) else 1.0)


@each_key
def test_an_empty_index_finds_nothing(key: str) -> None:
    scores, positions = VectorIndex(IndexSpec(key, "l2"), DIM).search(np.zeros((2, DIM), np.float32), 5)
    assert scores.shape == positions.shape == (2, 0)


@each_key
@pytest.mark.parametrize("act", ["train", "add", "search"])
@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, DIM - 1)),
        np.zeros((1, DIM + 1)),
        np.zeros(DIM),
        np.zeros((1, 1, DIM)),
        np.full((1, DIM), np.nan),
        np.full((1, DIM), np.inf),
        np.vstack([np.zeros((1, DIM)), np.full((1, DIM), -np.inf)]),
        np.eye(1, DIM) * 2 * MAX_VALUE,
        np.eye(1, DIM) * -2 * MAX_VALUE,
    ],
    ids=["narrow", "wide", "flat", "deep", "NaN", "infinite", "one infinite", "large", "as large below"],
)
def test_refuses_vectors_that_faiss_would_mishandle(key: str, act: str, bad: NDArray[np.float64]) -> None:
    index = VectorIndex(IndexSpec(key, "l2"), DIM)
    with pytest.raises(QueryError) as caught:
        getattr(index, act)(bad.astype(np.float32), *([1] if act == "search" else []))
    assert caught.value.field == "embeddings"
    assert len(index) == 0


@pytest.mark.parametrize("key", ["Flat", "HNSW32", "IVF1,Flat"])
@each_metric
def test_finds_the_largest_allowed_values(key: str, metric: Metric) -> None:
    index = filled(key, metric, np.full((1, 2_048), -MAX_VALUE, np.float32))
    scores, positions = index.search(np.full((1, 2_048), MAX_VALUE, np.float32), 1)
    assert positions.tolist() == [[0]]
    assert np.isfinite(scores).all()


def test_the_l2_score_is_the_distance_not_its_square() -> None:
    scores, positions = filled("Flat", "l2", np.array([[3, 4], [0, 1]], np.float32)).search(
        np.zeros((1, 2), np.float32), 2
    )
    assert (scores.tolist(), positions.tolist()) == ([[1.0, 5.0]], [[1, 0]])


@pytest.mark.parametrize(("metric", "sklearn_metric"), [("cosine", "cosine"), ("l2", "euclidean")])
def test_search_and_exhaustive_comparison_agree_with_scikit_learn(metric: Metric, sklearn_metric: str) -> None:
    items, queries = normalize(cloud(200, 12)), normalize(cloud(30, 12, seed=1))
    expected = (
        NearestNeighbors(n_neighbors=10, metric=sklearn_metric).fit(items).kneighbors(queries, return_distance=False)
    )
    assert np.array_equal(filled("Flat", metric, items).search(queries, 10)[1], expected)
    assert np.array_equal(nearest(queries, items, 10, metric)[1], expected)


@each_metric
@pytest.mark.parametrize("k", [1, 9, 60, 99])
def test_exhaustive_comparison_agrees_with_brute_force(metric: Metric, k: int) -> None:
    items, queries = for_metric(metric, cloud(60, 7)), for_metric(metric, cloud(8, 7, seed=1))
    scores, positions = nearest(queries, items, k, metric)
    truth = brute_force(metric, queries, items)
    np.testing.assert_allclose(scores, best_of(metric, truth, k), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(truth, positions, axis=1), scores, rtol=1e-4, atol=1e-4)


def test_no_queries_return_no_hits() -> None:
    scores, positions = filled("Flat", "l2", cloud(5, 3)).search(np.empty((0, 3), np.float32), 2)
    assert scores.shape == positions.shape == (0, 2)


@pytest.mark.parametrize("same", [np.asfortranarray, np.float64, lambda q: np.repeat(q, 2, axis=1)[:, ::2]])
def test_memory_layout_of_queries_does_not_matter(same: Callable[[Vectors], Vectors]) -> None:
    index, queries = filled("Flat", "ip", cloud(50, 6)), cloud(4, 6, seed=1)
    expected_scores, expected = index.search(queries, 3)
    scores, positions = index.search(same(queries), 3)
    assert np.array_equal(positions, expected)
    assert np.array_equal(scores, expected_scores)


@pytest.mark.parametrize("k", [0, -1, MAX_FOUND + 1, 10**9])
def test_refuses_a_limit_out_of_range(k: int) -> None:
    index = filled("Flat", "l2", cloud(5, 3))
    with pytest.raises(QueryError, match=f"from 1 to {MAX_FOUND}, found {k}"):
        index.search(cloud(1, 3), k)
    with pytest.raises(QueryError, match=f"from 1 to {MAX_FOUND}, found {k}"):
        index.search_among(cloud(1, 3), k, index.select(np.ones(5, bool)))


@given(st.integers(-5, 25), st.integers(1, 20))
def test_check_limit_accepts_1_to_the_maximum(limit: int, most: int) -> None:
    if 1 <= limit <= most:
        check_limit(limit, most)
    else:
        with pytest.raises(QueryError):
            check_limit(limit, most)


def test_the_largest_limit_is_1024() -> None:
    check_limit(MAX_LIMIT)
    assert MAX_LIMIT == 1_024
    with pytest.raises(QueryError, match="from 1 to 1024, found 1025"):
        check_limit(MAX_LIMIT + 1)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "Flut",
        "IVF999999999,Flat",
        "PQ8x24",
        "(" * 20_000,
        "flat",
        "IVF",
        "PQ5x4fs",
        "IDMap,Flat",
        "Flat,IDMap2",
        "Flat;",
        "é",
        "A" * 10_000,
    ],
)
def test_names_an_invalid_key(key: str) -> None:
    with pytest.raises(ConfigError, match="index_factory") as caught:
        VectorIndex(IndexSpec(key, "l2"), DIM)
    assert caught.value.field.startswith("index")


@pytest.mark.parametrize(
    ("key", "count"), [("IVF64,Flat", 20), ("PQ4x4fs", 10), ("IVF4,PQ4x8", 100), ("PCA4,IVF9,SQ8", 3)]
)
def test_refuses_too_few_training_vectors(key: str, count: int) -> None:
    index = VectorIndex(IndexSpec(key, "l2"), DIM)
    with pytest.raises(ConfigError, match=f"index: expected enough vectors to train {key} on, found {count}"):
        index.train(cloud(count, DIM))


@pytest.mark.parametrize("search", ["nprobe", "nprobe=0", "nprobe=-1", "efSearch=16", "nprobe=8;quit", "nprobe=1e3"])
def test_refuses_invalid_search_parameters(search: str) -> None:
    with pytest.raises(ConfigError, match="search parameters: expected nprobe=N, N from 1 to 1,048,576, found"):
        VectorIndex(IndexSpec("IVF4,Flat", "l2", search), DIM)
    index = VectorIndex(IndexSpec("IVF4,Flat", "l2", "nprobe=3"), DIM)
    with pytest.raises(ConfigError, match="search parameters"):
        index.set_search(search)
    assert index.spec.search == "nprobe=3"


def test_searches_with_the_parameters_of_the_spec(tmp_path: Path) -> None:
    """The more lists a search visits, the more items it finds."""
    items = cloud(COUNT, DIM)
    index, counts = filled("IVF4,Flat", "l2", items), []
    for lists in (1, 2, 4):
        index.set_search(f"nprobe={lists}")
        index.write(tmp_path / "index")
        again = VectorIndex.read(tmp_path / "index", index.spec, DIM, len(index))
        assert again.spec == IndexSpec("IVF4,Flat", "l2", f"nprobe={lists}")
        found, same = (one.search(items[:1], COUNT)[1] for one in (index, again))
        np.testing.assert_array_equal(found, same)
        counts.append(int((found >= 0).sum()))
    assert counts[0] < counts[1] < counts[2] == COUNT


@pytest.mark.parametrize(
    ("spec", "dim"),
    [(IndexSpec("HNSW32", "l2"), 3), (IndexSpec("Flat", "ip"), 3)],
    ids=["another kind", "another metric"],
)
def test_refuses_an_index_that_does_not_match_its_spec(spec: IndexSpec, dim: int, tmp_path: Path) -> None:
    filled("Flat", "l2", cloud(5, 3)).write(tmp_path / "index")
    with pytest.raises(ArtifactError, match=r"index: expected .*found IndexFlatL2, 3 dimensions"):
        VectorIndex.read(tmp_path / "index", spec, dim, 5)


@pytest.mark.parametrize("key", ["Flat", "HNSW8", "IVF2,SQ8", "PCA2,Flat", "SQ8,RFlat", "PQ3x2"])
def test_checks_dimensions_and_size_before_faiss_reads_the_file(key: str, tmp_path: Path) -> None:
    built = filled(key, "l2", cloud(40, 3))
    built.write(tmp_path / "index")
    assert len(VectorIndex.read(tmp_path / "index", built.spec, 3, 40)) == 40
    content = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(content[:16])  # FAISS could not read this
    for dim, count in ((4, 40), (3, 39)):
        with pytest.raises(ArtifactError, match=f"{dim} dimensions and {count} items, found 3 and 40"):
            VectorIndex.read(tmp_path / "index", IndexSpec("Flat", "l2"), dim, count)


@pytest.mark.parametrize("position", [40, -1, None], ids=["beyond the last", "before the first", "twice"])
def test_refuses_lists_with_duplicate_or_invalid_positions(position: int | None, tmp_path: Path) -> None:
    built = filled("IVF2,Flat", "l2", cloud(40, 3))
    built.check(tmp_path)
    ids = faiss.rev_swig_ptr(built._index.invlists.get_ids(0), 2)
    ids[0] = ids[1] if position is None else position
    with pytest.raises(ArtifactError, match="expected each position in one list"):
        built.check(tmp_path)


@pytest.mark.parametrize("keep", [0, 12, -1], ids=["empty", "a part", "all but one byte"])
def test_refuses_a_file_that_is_not_an_index(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "index"
    filled("Flat", "l2", cloud(5, 3)).write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"index: expected an? (FAISS )?index"):
        VectorIndex.read(path, IndexSpec("Flat", "l2"), 3, 5)


def test_one_thread_restores_the_thread_count() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        with suppress(InterruptedError), one_thread():
            assert faiss.omp_get_max_threads() == 1
            raise InterruptedError
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("block", [1, 1_000, 1 << 24])
@pytest.mark.parametrize("reach", [0.0, 0.5, 1.5])
def test_near_pairs_agrees_with_brute_force(monkeypatch: pytest.MonkeyPatch, block: int, reach: float) -> None:
    monkeypatch.setattr("lookalike.index.ann.vectors.BLOCK_PAIRS", block)
    vectors = cloud(100, 3)
    vectors[50:60] = vectors[:10]
    gaps = brute_force("l2", vectors, vectors)
    expected = {(int(i), int(j)) for i, j in np.argwhere(gaps <= reach) if i < j}
    parts = list(near_pairs(vectors, reach))
    found = {(int(i), int(j)) for _, one, other in parts for i, j in zip(one, other, strict=True)}
    assert sum(count for count, _, _ in parts) == 100
    assert expected <= found
    assert all(i < j and gaps[i, j] <= reach + 0.01 for i, j in found)


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
def test_drop_own_removes_a_query_from_its_hits(found: list[int], own: int, k: int, kept: list[int]) -> None:
    scores = {position: 1.0 / (1 + place) for place, position in enumerate(found)}
    given_scores = np.array([[scores[p] for p in found]])
    left, positions = drop_self(given_scores.astype(np.float32), np.array([found]), np.array([own]), k)
    assert positions.tolist() == [kept]
    hits = [p for p in kept if p >= 0]
    assert left[0, : len(hits)].tolist() == [np.float32(scores[p]) for p in hits]


def test_drop_own_handles_each_query_separately() -> None:
    scores = np.array([[3, 2, 1], [6, 5, 4]], np.float32)
    left, positions = drop_self(scores, np.array([[0, 1, 2], [0, 1, 2]]), np.array([0, 2]), 2)
    assert positions.tolist() == [[1, 2], [0, 1]]
    assert left.tolist() == [[2, 1], [6, 5]]


@given(arrays(np.float32, (3, 4), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_a_normalized_row_has_unit_length_and_keeps_its_direction(rows: NDArray[np.float32]) -> None:
    unit = normalize(rows)
    exact = rows.astype(np.float64)
    lengths = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0), atol=1e-6)


def test_a_zero_row_stays_zero() -> None:
    assert normalize(np.zeros((2, 3), np.float32)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(
    ("key", "metric", "reason"),
    [
        ("NSG16", "l2", "an NSG, whose build never ends"),
        ("HNSW8_PQ2x4", "ip", "an index that cannot search by ip"),
        ("IDMap,Flat", "l2", "a position must be a row number"),
    ],
)
def test_refuses_indexes_that_faiss_builds_but_cannot_use(key: str, metric: Metric, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"index {key}: .*{reason}"):
        VectorIndex(IndexSpec(key, metric), 4)


@pytest.mark.parametrize("count", [3, 100_000])
def test_reports_a_full_disk_for_any_size(count: int) -> None:
    """A small index is written only when the file is closed."""
    index = VectorIndex(IndexSpec("Flat", "l2"), 4)
    index.add(np.zeros((count, 4), np.float32))
    with pytest.raises(OSError, match="No space left"):
        index.write(Path("/dev/full"))
