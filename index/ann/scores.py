"""Scores in their metric's unit, and the vectors that a metric compares."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric

__all__ = ["best_first", "bounded", "drop_own", "normalize"]

_ONE = np.float32(1)

Positions = NDArray[np.int64]
Vectors = NDArray[np.float32]


def bounded(scores: Vectors, metric: Metric) -> Vectors:
    """(n, k) scores in the metric's unit: rounding takes none past what the metric can be. In place."""
    if metric == "cosine":
        np.minimum(np.maximum(scores, -_ONE, out=scores), _ONE, out=scores)
    return scores


def best_first(scores: Vectors, metric: Metric) -> Vectors:
    """(n, k): each row's scores from the best to the worst; NaN, no hit, last."""
    return np.sort(scores, axis=1) if metric == "l2" else -np.sort(-scores, axis=1)


def drop_own(scores: Vectors, positions: Positions, own: Positions, k: int) -> tuple[Vectors, Positions]:
    """Take each query's own position, (n,), out of what it found, (n, m), and keep the best k."""
    mine = positions == own[:, None]
    order = np.argsort(mine, axis=1, kind="stable")[:, :k]  # (n, at most k), a row's own goes last
    kept = np.where(mine, -1, positions)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(kept, order, axis=1)


def normalize(vectors: NDArray[Any]) -> Vectors:
    """(n, dim) scaled to unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)  # float32 has no room for the squares
    unit: Vectors = (vectors / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return unit
