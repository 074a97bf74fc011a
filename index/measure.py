"""Is the index right, and how fast? Recall is never reported without latency, nor latency without recall."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from index.vectors import VectorIndex, drop_own

__all__ = ["Measured", "measure", "one_thread", "recall"]

Positions = NDArray[np.int64]

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Measured:
    """What the queries found; latency is the median of one query at a time, one thread."""

    recall: float
    k: int
    queries: int
    latency_us: float


def recall(found: Positions, truth: Positions, ties: NDArray[np.bool_] | bool = False) -> float:
    """Share of `truth` (n, k) that stands in the same row of `found` (n, k); -1 is no hit.

    `ties` (n, k) marks what was found and is as near as the farthest of the truth: equal rows have no order.
    """
    wanted = int((truth >= 0).sum())
    known = (found[:, :, None] == truth[:, None, :]).any(axis=2)  # (n, found, k) -> (n, found)
    return float(((known | ties) & (found >= 0)).sum() / wanted) if wanted else 1.0


def measure(
    index: VectorIndex, queries: NDArray[np.float32], own: Positions | None = None, k: int = 10
) -> tuple[Measured, Positions]:
    """Compare `index` with exact search over the same vectors.

    Args:
        queries: (n, dim) float32.
        own: (n,) the position of a query that is itself an item, which it may not find; None where none is.

    Returns:
        The figures, and the positions found, (n, k).
    """
    asked = k if own is None else k + 1
    own = np.full(len(queries), -1) if own is None else own
    exact_scores, exact = index.search_exactly(queries, asked)
    scores, found = np.empty_like(exact_scores), np.empty_like(exact)
    micros = []
    with one_thread():
        for number, query in enumerate(queries):
            started = time.perf_counter()
            scores[number], found[number] = index.search(query[None, :], asked)
            micros.append((time.perf_counter() - started) * 1e6)
    scores, others = drop_own(scores, found, own, k)
    exact_scores, truth = drop_own(exact_scores, exact, own, k)
    ties = _as_near(scores, exact_scores[:, -1:], rising=index.spec.metric == "l2")
    return Measured(recall(others, truth, ties), k, len(queries), float(np.median(micros))), others


def _as_near(scores: NDArray[np.float32], last: NDArray[np.float32], *, rising: bool) -> NDArray[np.bool_]:
    """Which scores (n, k) are as good as `last` (n, 1), up to float32's rounding."""
    slack = TOLERANCE * np.abs(last)
    near: NDArray[np.bool_] = scores <= last + slack if rising else scores >= last - slack
    return near


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS with a single thread: what is timed or built then does not depend on how many cores there are."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
