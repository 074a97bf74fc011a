import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import Measurement, RecallBenchmark, recalls
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import VectorIndex
from tests.factories import cloud


def indexed(embeddings: NDArray[np.float32], key: str = "Flat", metric: Metric = "l2", search: str = "") -> VectorIndex:
    index = VectorIndex(IndexSpec(key, metric, search), embeddings.shape[1])
    index.train(embeddings)
    index.add(embeddings)
    return index


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([[1, 2, 3, 4]], [[1, 2, 3, 4]], [1.0]),
        ([[4, 3, 2, 1]], [[1, 2, 3, 4]], [1.0]),
        ([[1, 2, 9, 8]], [[1, 2, 3, 4]], [0.5]),
        ([[7, 8, 9, 0]], [[1, 2, 3, 4]], [0.0]),
        ([[1, -1, -1, -1]], [[1, 2, 3, 4]], [0.25]),
        ([[1, 2], [5, 6]], [[1, 2], [3, 5]], [1.0, 0.5]),
        ([[1, 2], [2, 1]], [[2, 3], [3, 4]], [0.5, 0.0]),
        ([[1, -1]], [[1, -1]], [1.0]),
        ([[-1, -1]], [[-1, -1]], [1.0]),
    ],
)
def test_recalls(found: list[list[int]], truth: list[list[int]], expected: list[float]) -> None:
    assert recalls(np.array(found), np.array(truth)).tolist() == expected


def test_a_tie_counts_as_correct_and_no_hit_does_not() -> None:
    found, truth = np.array([[1, 9, -1]]), np.array([[1, 2, 3]])
    assert recalls(found, truth, np.array([[True, True, True]])) == pytest.approx([2 / 3])


def nearest(metric: Metric, queries: NDArray[np.float32], items: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    q, x = queries.astype(np.float64), items.astype(np.float64)
    cost = ((q[:, None] - x[None]) ** 2).sum(axis=2) if metric == "l2" else -(q @ x.T)
    return np.argsort(cost, axis=1)[:, :k]


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_recall_and_interval_agree_with_brute_force(metric: Metric) -> None:
    items, queries = normalize(cloud(600, 32)), normalize(cloud(50, 32, seed=1))
    measured, found = RecallBenchmark(Embeddings(items, metric), queries).take(
        indexed(items, "IVF16,Flat", metric, "nprobe=2")
    )
    truth = nearest(metric, queries, items, 10)
    shares = np.array([len(set(row) & set(best)) for row, best in zip(found, truth, strict=True)]) / 10
    assert measured.recall == pytest.approx(shares.mean(), abs=1e-12)
    assert measured.recall < 0.9
    slack = 1.96 * np.sqrt(np.mean((shares - shares.mean()) ** 2) / 50)
    assert (measured.low, measured.high) == pytest.approx((shares.mean() - slack, shares.mean() + slack))
    assert (measured.k, measured.queries, found.shape) == (10, 50, (50, 10))
    assert measured.latency_us > 0
    assert measured.batch_us > 0


def test_the_confidence_interval() -> None:
    """Of four queries at the ends of a line, two find all their neighbors and two find none."""
    line = np.arange(20, dtype=np.float32)[:, None]
    half = indexed(line[:10])  # the index contains only half of the items
    queries = np.array([[-1], [-1], [99], [99]], np.float32)
    measured, _ = RecallBenchmark(Embeddings(line, "l2"), queries).take(half)
    assert measured.recall == 0.5
    assert (measured.low, measured.high) == pytest.approx((0.5 - 1.96 * 0.25, 0.5 + 1.96 * 0.25))


def test_the_confidence_interval_stays_within_0_and_1() -> None:
    line = np.arange(12, dtype=np.float32)[:, None]
    queries = np.array([[5.4], [5.6]], np.float32)
    every = RecallBenchmark(Embeddings(line, "l2"), queries).take(indexed(line))[0]
    assert (every.recall, every.low, every.high) == (1.0, 1.0, 1.0)
    one = RecallBenchmark(Embeddings(line, "l2"), queries, k=1).take(indexed(line[:6]))[0]
    assert (one.recall, one.low, one.high) == (0.5, 0.0, 1.0)


def test_a_query_that_is_an_item_does_not_find_itself() -> None:
    line = np.array([[0], [1], [3], [7]], np.float32)
    own = np.array([0, 2])
    measured, found = RecallBenchmark(Embeddings(line, "l2"), line[own], own, k=2).take(indexed(line))
    assert found.tolist() == [[1, 2], [1, 0]]
    assert measured.recall == 1.0


def test_the_truth_has_fewer_than_k_if_there_are_fewer_items() -> None:
    line = np.array([[0], [1], [3]], np.float32)
    measured, found = RecallBenchmark(Embeddings(line, "l2"), line, np.arange(3)).take(indexed(line))
    assert found.tolist() == [[1, 2, -1], [0, 2, -1], [1, 0, -1]]
    assert measured.recall == 1.0


def test_the_recall_of_a_single_item_is_1() -> None:
    measured, _ = RecallBenchmark(
        Embeddings(np.ones((1, 2), np.float32), "l2"), np.ones((1, 2), np.float32), np.array([0])
    ).take(indexed(np.ones((1, 2), np.float32)))
    assert measured.recall == 1.0


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_any_of_several_equal_rows_is_correct(metric: Metric) -> None:
    """The 10 nearest are any 10 of 40 copies, so an index that finds 10 copies has a recall of 1."""
    copies = np.repeat(normalize(cloud(5, 16)), 40, axis=0)[np.random.default_rng(0).permutation(200)]
    queries = normalize(cloud(5, 16))
    measured, found = RecallBenchmark(Embeddings(copies, metric), queries).take(indexed(copies, "HNSW32", metric))
    same = np.linalg.norm(copies[found] - queries[:, None], axis=2)
    assert measured.recall == float((same < 1e-6).mean())
    assert measured.recall > 0.9


def test_one_benchmark_measures_several_indexes() -> None:
    items = cloud(300, 8)
    benchmark = RecallBenchmark(Embeddings(items, "l2"), cloud(40, 8, seed=1))
    narrow, wide = (benchmark.take(indexed(items, "IVF8,Flat", "l2", f"nprobe={n}"))[0].recall for n in (1, 8))
    assert narrow < wide == 1.0


def test_measuring_restores_the_thread_count() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        items = cloud(20, 2)
        benchmark = RecallBenchmark(Embeddings(items, "l2"), cloud(3, 2))
        assert isinstance(benchmark.take(indexed(items))[0], Measurement)
        assert min(benchmark.time(indexed(items))) > 0
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
