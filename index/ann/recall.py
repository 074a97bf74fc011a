"""Is the index right, and how fast? Recall is never reported without latency, nor latency without recall."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import drop_own
from lookalike.index.ann.vectors import VectorIndex, one_thread

__all__ = ["K", "Measurement", "RecallBenchmark", "recalls"]

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]

K = 10
"""Nearest that recall is of, unless another number is asked for."""
TOLERANCE = 1e-5
NORMAL = 1.96
"""Standard errors on either side: 95 % of a normal distribution."""
GLANCE, TIMED = 100, 300
"""Queries that are asked one at a time, to take the median of: at first, and where it is close."""


@dataclass(frozen=True)
class Measurement:
    """What the queries found, one thread.

    Attributes:
        recall: the mean over the queries, of the k nearest by exact search; `low` and `high`: its 95 % interval.
        latency_us: the median of one query at a time.
        batch_us: a query, of all of them at once.
    """

    recall: float
    low: float
    high: float
    k: int
    queries: int
    latency_us: float
    batch_us: float


def recalls(found: Positions, truth: Positions, ties: NDArray[np.bool_] | bool = False) -> NDArray[np.float64]:
    """(n,): the share of each row of `truth`, (n, k), that stands in the same row of `found`, (n, k); -1 is no hit.

    `ties` (n, k) marks what was found and is as near as the farthest of the truth: equal rows have no order.
    """
    wanted = (truth >= 0).sum(axis=1)
    known = (found[:, :, None] == truth[:, None, :]).any(axis=2)  # (n, found, k) -> (n, found)
    right = ((known | ties) & (found >= 0)).sum(axis=1)
    shares: NDArray[np.float64] = np.where(wanted > 0, right / np.maximum(wanted, 1), 1.0)
    return shares


class RecallBenchmark:
    """Queries whose k nearest are known by exact search, to ask any index over the same embeddings."""

    def __init__(self, embeddings: Embeddings, queries: Vectors, own: Positions | None = None, k: int = K) -> None:
        """
        Args:
            queries: (n, dim) float32.
            own: (n,) the position of a query that is itself an item, which it may not find; None where none is.
        """
        self.embeddings = embeddings
        self.queries = queries
        self.k = k
        self._asked = k if own is None else k + 1
        self._own = np.full(len(queries), -1) if own is None else own
        _, exact = embeddings.nearest(queries, self._asked)
        scores, self.truth = drop_own(embeddings.scores(queries, exact), exact, self._own, k)
        self._last = scores[:, -1:]  # (n, 1)

    def take(self, index: VectorIndex) -> tuple[Measurement, Positions]:
        """The figures, and the positions found, (n, at most k)."""
        found, latency, batch = self._ask(index, GLANCE)
        scores, found = drop_own(self.embeddings.scores(self.queries, found), found, self._own, self.k)
        shares = recalls(found, self.truth, self._as_near(scores))
        recall, slack = float(shares.mean()), NORMAL * float(shares.std()) / len(shares) ** 0.5
        low, high = max(0.0, recall - slack), min(1.0, recall + slack)
        return Measurement(recall, low, high, self.k, len(shares), latency, batch), found

    def time(self, index: VectorIndex) -> tuple[float, float]:
        """Microseconds a query, one thread: the median of one at a time, and all of them at once."""
        return self._ask(index, TIMED)[1:]

    def _ask(self, index: VectorIndex, alone: int) -> tuple[Positions, float, float]:
        """All queries at once, and the first `alone` of them one at a time: what was found, and microseconds."""
        micros = []
        with one_thread():
            began = time.perf_counter()
            found = index.search(self.queries, self._asked)[1]
            batch = (time.perf_counter() - began) / len(self.queries)
            for query in self.queries[:alone]:
                row = query[None, :]
                began = time.perf_counter()
                index.search(row, self._asked)
                micros.append((time.perf_counter() - began) * 1e6)
        return found, float(np.median(micros)), batch * 1e6

    def _as_near(self, scores: Vectors) -> NDArray[np.bool_]:
        """Which scores, (n, k), are as good as the last of the truth, up to float32's rounding."""
        slack = TOLERANCE * np.abs(self._last)
        rising = self.embeddings.metric == "l2"
        near: NDArray[np.bool_] = scores <= self._last + slack if rising else scores >= self._last - slack
        return near
