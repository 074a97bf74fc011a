"""Measure the recall and the latency of an index; the two are always reported together."""

import time
from dataclasses import dataclass

import numpy as np

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import drop_self
from lookalike.index.ann.vectors import VectorIndex, one_thread
from lookalike.training.array_types import Booleans, Doubles, Floats, Positions

__all__ = ["K", "Measurement", "RecallBenchmark", "recalls"]


K = 10
"""The default number of nearest neighbors for recall."""
TOLERANCE = 1e-5
NORMAL = 1.96
"""Standard errors on each side that cover 95 % of a normal distribution."""
GLANCE, TIMED = 100, 300
"""Queries sent one at a time for the median latency: in `take`, and in `time`."""


@dataclass(frozen=True)
class Measurement:
    """The result of a benchmark on one thread.

    Attributes:
        recall: the mean recall of the queries, relative to the k nearest by exact search; `low` and `high`: its 95 %
            confidence interval.
        latency_us: the median time of a query sent alone.
        batch_us: the time per query if all are sent at once.
    """

    recall: float
    low: float
    high: float
    k: int
    queries: int
    latency_us: float
    batch_us: float


def recalls(found: Positions, truth: Positions, ties: Booleans | bool = False) -> Doubles:
    """Return, for each row, the share of `truth`, (n, k), that is in `found`, (n, k): (n,). -1 means no hit.

    `ties`, (n, k): which found items are as near as the farthest of the truth; they count, because equal rows have no
    order.
    """
    relevant = (truth >= 0).sum(axis=1)
    in_truth = (found[:, :, None] == truth[:, None, :]).any(axis=2)  # (n, found, k) -> (n, found)
    correct = ((in_truth | ties) & (found >= 0)).sum(axis=1)
    shares: Doubles = np.where(relevant > 0, correct / np.maximum(relevant, 1), 1.0)
    return shares


class RecallBenchmark:
    """Queries with known exact k nearest neighbors, to measure any index over the same embeddings."""

    def __init__(self, embeddings: Embeddings, queries: Floats, own: Positions | None = None, k: int = K) -> None:
        """
        Args:
            queries: (n, dim) float32.
            own: (n,) the positions of the queries if they are items themselves, which do not count as hits; else None.
        """
        self.embeddings, self.queries, self.k = embeddings, queries, k
        self._fetched = k if own is None else k + 1
        self._own = np.full(len(queries), -1) if own is None else own
        _, exact = embeddings.nearest(queries, self._fetched)
        scores, self.truth = drop_self(embeddings.scores(queries, exact), exact, self._own, k)
        self._last = scores[:, -1:]  # (n, 1)

    def take(self, index: VectorIndex) -> tuple[Measurement, Positions]:
        """Return the measurement of an index, and the positions found, (n, at most k)."""
        found, latency, batch = self._run(index, GLANCE)
        scores, found = drop_self(self.embeddings.scores(self.queries, found), found, self._own, self.k)
        shares = recalls(found, self.truth, self._ties(scores))
        recall, slack = float(shares.mean()), NORMAL * float(shares.std()) / len(shares) ** 0.5
        low, high = max(0.0, recall - slack), min(1.0, recall + slack)
        return Measurement(recall, low, high, self.k, len(shares), latency, batch), found

    def time(self, index: VectorIndex) -> tuple[float, float]:
        """Return microseconds per query on one thread: the median of single queries, and of all queries at once."""
        return self._run(index, TIMED)[1:]

    def _run(self, index: VectorIndex, single: int) -> tuple[Positions, float, float]:
        """Search all queries at once, and the first `single` queries one at a time; return hits and microseconds."""
        micros = []
        with one_thread():
            started = time.perf_counter()
            found = index.search(self.queries, self._fetched)[1]
            batch = (time.perf_counter() - started) / len(self.queries)
            for query in self.queries[:single]:
                row = query[None, :]
                started = time.perf_counter()
                index.search(row, self._fetched)
                micros.append((time.perf_counter() - started) * 1e6)
        return found, float(np.median(micros)), batch * 1e6

    def _ties(self, scores: Floats) -> Booleans:
        """Return which scores, (n, k), are as good as the last of the truth, up to float32's rounding."""
        slack = TOLERANCE * np.abs(self._last)
        smaller_is_better = self.embeddings.metric == "l2"
        ties: Booleans = scores <= self._last + slack if smaller_is_better else scores >= self._last - slack
        return ties
