"""Every index that the tuner can choose, and some that a user may write, do what the floor relies on."""

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
from lookalike.index.ann.scores import drop_own, normalize
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import MAX_VALUE, VectorIndex, near_pairs, nearest, one_thread
from lookalike.index.errors import QueryError
from lookalike.index.limits import MAX_FOUND, MAX_LIMIT, check_limit
from lookalike.training.errors import ArtifactError, ConfigError
from tests.factories import cloud

COUNT, DIM = 300, 16
WRITTEN = ("IVF4,Flat", "HNSW8", "RR16,Flat", "PQ4x4fs,RFlat", "SQ8")
"""As a user may write them."""
CODES = ("SQ8", "HNSW32_SQ8")
"""These keep but 8 bits a value, and nothing to tell near ones apart by."""
CENTROIDS = 16
"""Of 4 bits: fewer vectors train no product quantizer."""


def kinds_for(count: int, dim: int) -> list[str]:
    """The keys that the tuner may choose for so many vectors, and may not yet as they are too few to be worth it."""
    keys = dict.fromkeys(kind.key_for(count, dim) for kind in KINDS if not (kind.even and dim % 2))
    return [key for key in keys if count >= CENTROIDS or "PQ" not in key]


METRICS: tuple[Metric, ...] = get_args(Metric)
CHOSEN = kinds_for(COUNT, DIM)
each_key = pytest.mark.parametrize("key", [*CHOSEN, *WRITTEN])
each_metric = pytest.mark.parametrize("metric", METRICS)

Vectors = NDArray[np.float32]


def filled(key: str, metric: Metric, vectors: Vectors) -> VectorIndex:
    """An index of the vectors that looks everywhere."""
    index = VectorIndex(IndexSpec(key, metric), vectors.shape[1])
    index.train(vectors)
    index.add(vectors)
    return everywhere(index)


def everywhere(index: VectorIndex) -> VectorIndex:
    grids = index.search_params.grids().items()
    index.set_search(",".join(f"{name}={min(values[-1], len(index))}" for name, values in grids))
    return index


def as_asked(metric: Metric, vectors: Vectors) -> Vectors:
    return normalize(vectors) if metric == "cosine" else vectors


def brute_force(metric: Metric, queries: Vectors, items: Vectors) -> NDArray[np.float64]:
    """(queries, items): every score, in float64 and in the metric's own unit."""
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
    """Different items, and as near as the nearest are, or all but a few of them where codes are coarse."""
    assert all(len(set(row)) == len(row) for row in positions.tolist())
    assert ((positions >= 0) & (positions < truth.shape[1])).all()
    found, best = np.take_along_axis(truth, positions, axis=1), best_of(metric, truth, k)
    if key.endswith(CODES):
        last = best[:, -1:]
        assert ((found <= last + 1e-5) if metric == "l2" else (found >= last - 1e-5)).mean() >= 0.85
    else:
        np.testing.assert_allclose(best_of(metric, found, k), best, rtol=1e-3, atol=1e-3)


def test_the_set_holds_all_kinds_that_the_tuner_knows() -> None:
    assert len(CHOSEN) == len({kind.key for kind in KINDS})


@each_key
@each_metric
def test_an_index_finds_the_nearest(key: str, metric: Metric) -> None:
    items, queries = as_asked(metric, cloud(COUNT, DIM)), as_asked(metric, cloud(8, DIM, seed=1))
    scores, positions = filled(key, metric, items).search(queries, 10)
    assert scores.shape == positions.shape == (8, 10)
    assert (scores.dtype.str, positions.dtype.str) == ("<f4", "<i8")
    assert_nearest(key, metric, brute_force(metric, queries, items), positions, 10)


@each_key
def test_neighbours_by_hand(key: str) -> None:
    """Items at the whole numbers of the first axis, and the nearest of 41.2 and of 120.9."""
    items, queries = np.zeros((COUNT, DIM), np.float32), np.zeros((2, DIM), np.float32)
    items[:, 0], queries[:, 0] = np.arange(COUNT), [41.2, 120.9]
    scores, positions = filled(key, "l2", items).search(queries, 3)
    near = items[positions, 0]
    far = 2.5 if key.endswith(CODES) else 1e-3 + np.array([[0.2, 0.8, 1.2], [0.1, 0.9, 1.1]])
    assert (np.abs(near - queries[:, :1]) <= far).all()
    np.testing.assert_allclose(scores, np.abs(near - queries[:, :1]), atol=1.2)


@pytest.mark.parametrize(
    ("key", "count", "dim"),
    [(key, count, dim) for count, dim in [(300, 1), (120, 2_048), (17, 4), (1, 4)] for key in kinds_for(count, dim)],
)
@each_metric
def test_one_dimension_or_very_many_and_few_items_or_one(key: str, metric: Metric, count: int, dim: int) -> None:
    items, queries = as_asked(metric, cloud(count, dim)), as_asked(metric, cloud(8, dim, seed=1))
    scores, positions = filled(key, metric, items).search(queries, 10)
    assert scores.shape == positions.shape == (8, min(10, count))
    assert_nearest(key, metric, brute_force(metric, queries, items), positions, min(10, count))


@each_key
@pytest.mark.parametrize("k", [COUNT, COUNT + 1, MAX_FOUND])
def test_more_than_all_are_all(key: str, k: int) -> None:
    index = filled(key, "l2", cloud(COUNT, DIM))
    scores, positions = index.search(cloud(2, DIM, seed=1), k)
    assert positions.shape == scores.shape == (2, COUNT)
    for row in positions:
        hits = row[row >= 0]
        assert len(set(hits)) == len(hits) >= 0.95 * COUNT  # a graph may not lead to an item


@each_key
@each_metric
def test_equal_rows_are_items_of_their_own(key: str, metric: Metric) -> None:
    items = np.concatenate([normalize(cloud(COUNT - 4, DIM)), np.tile(normalize(cloud(1, DIM, seed=1)), (4, 1))])
    scores, positions = filled(key, metric, items).search(items[-1:], 4)
    assert sorted(positions[0]) == [COUNT - 4, COUNT - 3, COUNT - 2, COUNT - 1]
    assert np.ptp(scores) < 1e-6


@each_key
def test_an_index_of_one_row_only_finds_as_many_copies_as_are_asked_for(key: str) -> None:
    index = filled(key, "l2", np.ones((COUNT, DIM), np.float32))
    _, positions = index.search(np.ones((1, DIM), np.float32), 10)
    hits = positions[positions >= 0]
    assert len(set(hits)) == len(hits)
    assert len(hits) == 10


def lying_in_lists(count: int) -> Vectors:
    """(count, DIM) of unit length around 50 points."""
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
def test_what_is_settled_among_some_is_right_wherever_they_lie(key: str, metric: Metric, tmp_path: Path) -> None:
    """As it was built and as it comes back, mapped from a file."""
    items, queries = lying_in_lists(20_000), lying_in_lists(20_100)[20_000:]
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
def test_what_takes_no_longer_to_compare_is_left_to_that(key: str, some: int) -> None:
    """Of 300 items there is no search among some that is worth it, least of all in an index that looks everywhere."""
    index = filled(key, "l2", cloud(COUNT, DIM))
    positions, settled = index.search_among(cloud(2, DIM, seed=1), 3, index.select(np.arange(COUNT) < some))
    assert positions.shape == (2, 3)
    assert not settled.any()


def test_a_first_look_settles_nothing_however_many_are_asked_for() -> None:
    """Two looks have to agree, of which the second would be at more than a half of the lists."""
    items = cloud(4_000, DIM)
    index = VectorIndex(IndexSpec("IVF40,Flat", "l2", "nprobe=12"), DIM)
    index.train(items)
    index.add(items)
    positions, settled = index.search_among(items[:5], 100, index.select(np.ones(4_000, bool)))
    assert (positions[:, 0] == np.arange(5)).all()
    assert not settled.any()


@each_key
@each_metric
def test_an_index_comes_back_from_its_file(key: str, metric: Metric, tmp_path: Path) -> None:
    index = filled(key, metric, as_asked(metric, cloud(COUNT, DIM)))
    index.write(tmp_path / "index")
    assert index.bytes == (tmp_path / "index").stat().st_size
    again = VectorIndex.read(tmp_path / "index", index.spec, DIM, len(index))
    queries = as_asked(metric, cloud(8, DIM, seed=1))
    for (scores, positions), (wanted_scores, wanted) in [
        (again.search(queries, 7), index.search(queries, 7)),
        (again.search(queries[:1], COUNT), index.search(queries[:1], COUNT)),
    ]:
        np.testing.assert_array_equal(positions, wanted)
        np.testing.assert_array_equal(scores, wanted_scores)
    assert (len(again), again.spec, again.dim) == (COUNT, index.spec, DIM)


@each_key
def test_the_same_vectors_make_the_same_file(key: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        filled(key, "l2", cloud(COUNT, DIM)).write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("key", CHOSEN)
def test_what_is_added_later_is_found_too(key: str) -> None:
    """The held-out rows are added to an index that was measured without them."""
    items = cloud(COUNT, DIM)
    index = VectorIndex(IndexSpec(key, "l2"), DIM)
    index.train(items[:270])
    index.add(items[:270])
    index.add(items[270:])
    everywhere(index)
    assert len(index) == COUNT
    _, positions = index.search(items[270:], 1)
    assert (positions[:, 0] == np.arange(270, COUNT)).mean() >= (0.9 if key.endswith(CODES) else 1.0)


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
def test_vectors_that_faiss_would_take_wrongly_are_refused(key: str, act: str, bad: NDArray[np.float64]) -> None:
    index = VectorIndex(IndexSpec(key, "l2"), DIM)
    with pytest.raises(QueryError) as caught:
        getattr(index, act)(bad.astype(np.float32), *([1] if act == "search" else []))
    assert caught.value.field == "embeddings"
    assert len(index) == 0


@pytest.mark.parametrize("key", ["Flat", "HNSW32", "IVF1,Flat"])
@each_metric
def test_the_largest_values_allowed_are_still_found(key: str, metric: Metric) -> None:
    index = filled(key, metric, np.full((1, 2_048), -MAX_VALUE, np.float32))
    scores, positions = index.search(np.full((1, 2_048), MAX_VALUE, np.float32), 1)
    assert positions.tolist() == [[0]]
    assert np.isfinite(scores).all()


def test_the_euclidean_score_is_the_distance_and_not_its_square() -> None:
    scores, positions = filled("Flat", "l2", np.array([[3, 4], [0, 1]], np.float32)).search(
        np.zeros((1, 2), np.float32), 2
    )
    assert (scores.tolist(), positions.tolist()) == ([[1.0, 5.0]], [[1, 0]])


@pytest.mark.parametrize(("metric", "theirs"), [("cosine", "cosine"), ("l2", "euclidean")])
def test_search_and_comparison_with_all_agree_with_scikit_learn(metric: Metric, theirs: str) -> None:
    items, queries = normalize(cloud(200, 12)), normalize(cloud(30, 12, seed=1))
    wanted = NearestNeighbors(n_neighbors=10, metric=theirs).fit(items).kneighbors(queries, return_distance=False)
    assert np.array_equal(filled("Flat", metric, items).search(queries, 10)[1], wanted)
    assert np.array_equal(nearest(queries, items, 10, metric)[1], wanted)


@each_metric
@pytest.mark.parametrize("k", [1, 9, 60, 99])
def test_comparison_with_all_is_brute_force_in_the_metrics_unit(metric: Metric, k: int) -> None:
    items, queries = as_asked(metric, cloud(60, 7)), as_asked(metric, cloud(8, 7, seed=1))
    scores, positions = nearest(queries, items, k, metric)
    truth = brute_force(metric, queries, items)
    np.testing.assert_allclose(scores, best_of(metric, truth, k), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(truth, positions, axis=1), scores, rtol=1e-4, atol=1e-4)


def test_no_query_gets_no_answer() -> None:
    scores, positions = filled("Flat", "l2", cloud(5, 3)).search(np.empty((0, 3), np.float32), 2)
    assert scores.shape == positions.shape == (0, 2)


@pytest.mark.parametrize("same", [np.asfortranarray, np.float64, lambda q: np.repeat(q, 2, axis=1)[:, ::2]])
def test_queries_laid_out_otherwise_find_the_same(same: Callable[[Vectors], Vectors]) -> None:
    index, queries = filled("Flat", "ip", cloud(50, 6)), cloud(4, 6, seed=1)
    wanted_scores, wanted = index.search(queries, 3)
    scores, positions = index.search(same(queries), 3)
    assert np.array_equal(positions, wanted)
    assert np.array_equal(scores, wanted_scores)


@pytest.mark.parametrize("k", [0, -1, MAX_FOUND + 1, 10**9])
def test_a_limit_out_of_bounds_is_refused(k: int) -> None:
    index = filled("Flat", "l2", cloud(5, 3))
    with pytest.raises(QueryError, match=f"from 1 to {MAX_FOUND}, found {k}"):
        index.search(cloud(1, 3), k)
    with pytest.raises(QueryError, match=f"from 1 to {MAX_FOUND}, found {k}"):
        index.search_among(cloud(1, 3), k, index.select(np.ones(5, bool)))


@given(st.integers(-5, 25), st.integers(1, 20))
def test_a_limit_is_right_between_1_and_the_most(limit: int, most: int) -> None:
    if 1 <= limit <= most:
        check_limit(limit, most)
    else:
        with pytest.raises(QueryError):
            check_limit(limit, most)


def test_a_user_may_ask_for_1024() -> None:
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
def test_what_is_no_index_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match="index_factory") as caught:
        VectorIndex(IndexSpec(key, "l2"), DIM)
    assert caught.value.field.startswith("index")


@pytest.mark.parametrize(
    ("key", "count"), [("IVF64,Flat", 20), ("PQ4x4fs", 10), ("IVF4,PQ4x8", 100), ("PCA4,IVF9,SQ8", 3)]
)
def test_too_few_vectors_to_train_on_are_refused(key: str, count: int) -> None:
    index = VectorIndex(IndexSpec(key, "l2"), DIM)
    with pytest.raises(ConfigError, match=f"index: expected enough vectors to train {key} on, found {count}"):
        index.train(cloud(count, DIM))


@pytest.mark.parametrize("search", ["nprobe", "nprobe=0", "nprobe=-1", "efSearch=16", "nprobe=8;quit", "nprobe=1e3"])
def test_search_parameters_that_are_none_are_refused_at_the_start_and_later(search: str) -> None:
    with pytest.raises(ConfigError, match="search parameters: expected nprobe=N, N from 1 to 1,048,576, found"):
        VectorIndex(IndexSpec("IVF4,Flat", "l2", search), DIM)
    index = VectorIndex(IndexSpec("IVF4,Flat", "l2", "nprobe=3"), DIM)
    with pytest.raises(ConfigError, match="search parameters"):
        index.set_search(search)
    assert index.spec.search == "nprobe=3"


def test_an_index_is_searched_as_its_spec_says(tmp_path: Path) -> None:
    """The more lists are looked through, the more items there are to find."""
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
def test_an_index_that_is_not_the_one_described_is_refused(spec: IndexSpec, dim: int, tmp_path: Path) -> None:
    filled("Flat", "l2", cloud(5, 3)).write(tmp_path / "index")
    with pytest.raises(ArtifactError, match=r"index: expected .*found IndexFlatL2, 3 dimensions"):
        VectorIndex.read(tmp_path / "index", spec, dim, 5)


@pytest.mark.parametrize("key", ["Flat", "HNSW8", "IVF2,SQ8", "PCA2,Flat", "SQ8,RFlat", "PQ3x2"])
def test_dimensions_and_size_are_compared_before_faiss_reads_the_file(key: str, tmp_path: Path) -> None:
    built = filled(key, "l2", cloud(40, 3))
    built.write(tmp_path / "index")
    assert len(VectorIndex.read(tmp_path / "index", built.spec, 3, 40)) == 40
    content = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(content[:16])  # of which FAISS makes nothing
    for dim, count in ((4, 40), (3, 39)):
        with pytest.raises(ArtifactError, match=f"{dim} dimensions and {count} items, found 3 and 40"):
            VectorIndex.read(tmp_path / "index", IndexSpec("Flat", "l2"), dim, count)


@pytest.mark.parametrize("wrong", [40, -1, None], ids=["beyond the last", "before the first", "twice"])
def test_lists_that_hold_a_position_twice_or_one_that_is_none_are_refused(wrong: int | None, tmp_path: Path) -> None:
    built = filled("IVF2,Flat", "l2", cloud(40, 3))
    built.check(tmp_path)
    ids = faiss.rev_swig_ptr(built._index.invlists.get_ids(0), 2)
    ids[0] = ids[1] if wrong is None else wrong
    with pytest.raises(ArtifactError, match="expected each position in one list"):
        built.check(tmp_path)


@pytest.mark.parametrize("keep", [0, 12, -1], ids=["empty", "a part", "all but one byte"])
def test_a_file_that_is_no_index_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "index"
    filled("Flat", "l2", cloud(5, 3)).write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"index: expected an? (FAISS )?index"):
        VectorIndex.read(path, IndexSpec("Flat", "l2"), 3, 5)


def test_a_thread_alone_is_given_back_its_others() -> None:
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
def test_near_pairs_are_all_that_are_near(monkeypatch: pytest.MonkeyPatch, block: int, reach: float) -> None:
    monkeypatch.setattr("lookalike.index.ann.vectors.BLOCK_PAIRS", block)
    vectors = cloud(100, 3)
    vectors[50:60] = vectors[:10]
    gaps = brute_force("l2", vectors, vectors)
    wanted = {(int(i), int(j)) for i, j in np.argwhere(gaps <= reach) if i < j}
    parts = list(near_pairs(vectors, reach))
    found = {(int(i), int(j)) for _, one, other in parts for i, j in zip(one, other, strict=True)}
    assert sum(count for count, _, _ in parts) == 100
    assert wanted <= found
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


@pytest.mark.parametrize(
    ("key", "metric", "why"),
    [
        ("NSG16", "l2", "an NSG, whose links FAISS never ends making"),
        ("HNSW8_PQ2x4", "ip", "one that cannot search by ip"),
        ("IDMap,Flat", "l2", "a position must be a row number"),
    ],
)
def test_what_faiss_makes_but_cannot_keep_to_is_refused(key: str, metric: Metric, why: str) -> None:
    with pytest.raises(ConfigError, match=f"index {key}: .*{why}"):
        VectorIndex(IndexSpec(key, metric), 4)


@pytest.mark.parametrize("count", [3, 100_000])
def test_a_full_disk_is_told_however_little_is_written(count: int) -> None:
    """What is little is written as the file is closed."""
    index = VectorIndex(IndexSpec("Flat", "l2"), 4)
    index.add(np.zeros((count, 4), np.float32))
    with pytest.raises(OSError, match="No space left"):
        index.write(Path("/dev/full"))
