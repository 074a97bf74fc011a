"""Is the index right, and how fast? Recall is never reported without latency, nor latency without recall."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from index.vectors import VectorIndex, drop_own

__all__ = ["Measured", "measure", "recall"]

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """What the queries found; latency is the median of one query at a time, one thread."""

    recall: float
    k: int
    queries: int
    latency_us: float


def recall(found: Positions, truth: Positions) -> float:
    """Mean share of each row of `truth` (n, k) that stands in the same row of `found`; -1 is no hit."""
    wanted = truth >= 0
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=1) & wanted  # (n, found, k) -> (n, k)
    return float(hits.sum() / wanted.sum()) if wanted.any() else 1.0


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
    own = np.full(len(queries), -1) if own is None else own
    asked = min(k + 1, len(index))
    scores, exact = index.search_exactly(queries, asked)
    found = np.empty_like(exact)
    micros = []
    with _one_thread():
        for number, query in enumerate(queries):
            started = time.perf_counter()
            _, found[number] = index.search(query[None, :], asked)
            micros.append((time.perf_counter() - started) * 1e6)
    _, others = drop_own(scores, found, own, k)
    _, truth = drop_own(scores, exact, own, k)
    return Measured(recall(others, truth), k, len(queries), float(np.median(micros))), others


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
