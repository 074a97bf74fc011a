import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from index.measure import measure, recall
from index.spec import IndexSpec, Metric
from index.vectors import VectorIndex, normalize
from tests.index.made import cloud


@pytest.mark.parametrize(
    ("found", "truth", "wanted"),
    [
        ([[1, 2, 3, 4]], [[1, 2, 3, 4]], 1.0),
        ([[4, 3, 2, 1]], [[1, 2, 3, 4]], 1.0),
        ([[1, 2, 9, 8]], [[1, 2, 3, 4]], 0.5),
        ([[7, 8, 9, 0]], [[1, 2, 3, 4]], 0.0),
        ([[1, -1, -1, -1]], [[1, 2, 3, 4]], 0.25),
        ([[1, 2], [5, 6]], [[1, 2], [3, 5]], 0.75),
        ([[1, 2], [2, 1]], [[2, 3], [3, 4]], 0.25),
        ([[1, -1]], [[1, -1]], 1.0),
        ([[-1, -1]], [[-1, -1]], 1.0),
    ],
)
def test_recall_worked_out_by_hand(found: list[list[int]], truth: list[list[int]], wanted: float) -> None:
    assert recall(np.array(found), np.array(truth)) == wanted


def test_a_tie_counts_as_the_truth_and_no_hit_never_does() -> None:
    found, truth = np.array([[1, 9, -1]]), np.array([[1, 2, 3]])
    assert recall(found, truth, np.array([[True, True, True]])) == pytest.approx(2 / 3)


def nearest(metric: Metric, queries: NDArray[np.float32], items: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    q, x = queries.astype(np.float64), items.astype(np.float64)
    cost = ((q[:, None] - x[None]) ** 2).sum(axis=2) if metric == "l2" else -(q @ x.T)
    return np.argsort(cost, axis=1)[:, :k]


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_the_recall_of_a_poor_graph_is_what_brute_force_says(metric: Metric) -> None:
    items, queries = normalize(cloud(600, 32)), normalize(cloud(50, 32, seed=1))
    index = VectorIndex(IndexSpec("hnsw", metric, m=2, ef_construction=4, ef_search=4), 32)
    index.add(items)
    measured, found = measure(index, queries)
    truth = nearest(metric, queries, items, 10)
    shared = [len(set(row) & set(best)) for row, best in zip(found, truth, strict=True)]
    assert measured.recall == sum(shared) / 500
    assert measured.recall < 0.9
    assert (measured.k, measured.queries, found.shape) == (10, 50, (50, 10))
    assert measured.latency_us > 0


def test_an_item_that_asks_may_not_find_itself() -> None:
    index = VectorIndex(IndexSpec("flat", "l2"), 1)
    index.add(np.array([[0], [1], [3], [7]], np.float32))
    own = np.array([0, 2])
    measured, found = measure(index, index.reconstruct(own), own, k=2)
    assert found.tolist() == [[1, 2], [1, 0]]
    assert measured.recall == 1.0


def test_fewer_others_than_k_are_all_of_the_truth() -> None:
    index = VectorIndex(IndexSpec("flat", "l2"), 1)
    index.add(np.array([[0], [1], [3]], np.float32))
    measured, found = measure(index, index.reconstruct(np.arange(3)), np.arange(3))
    assert found.tolist() == [[1, 2, -1], [0, 2, -1], [1, 0, -1]]
    assert measured.recall == 1.0


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_equal_rows_have_no_order_to_get_wrong(metric: Metric) -> None:
    """The 10 nearest are any 10 of 40 copies, so a graph that finds 10 copies has missed nothing."""
    copies = np.repeat(normalize(cloud(5, 16)), 40, axis=0)
    index = VectorIndex(IndexSpec("hnsw", metric), 16)
    index.add(copies[np.random.default_rng(0).permutation(200)])
    measured, found = measure(index, copies[::40])
    same = np.linalg.norm(index.reconstruct(found.ravel()).reshape(5, 10, 16) - copies[::40, None], axis=2)
    assert measured.recall == float((same < 1e-6).mean())
    assert measured.recall > 0.9


def test_measuring_leaves_the_thread_count_as_it_was() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        index = VectorIndex(IndexSpec("flat", "l2"), 2)
        index.add(cloud(20, 2))
        measure(index, cloud(3, 2))
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
