"""Helpers for scores in the unit of their metric, and for normalized vectors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.training.array_types import Floats, Positions

__all__ = ["best_first", "bounded", "drop_self", "normalize"]

_ONE = np.float32(1)


def bounded(scores: Floats, metric: Metric) -> Floats:
    """Clip scores, (n, k), that rounding moved out of the metric's range, in place, and return them."""
    if metric == "cosine":
        np.minimum(np.maximum(scores, -_ONE, out=scores), _ONE, out=scores)
    return scores


def best_first(scores: Floats, metric: Metric) -> Floats:
    """Sort the scores of each row, (n, k), from best to worst; NaN (no hit) comes last."""
    return np.sort(scores, axis=1) if metric == "l2" else -np.sort(-scores, axis=1)


def drop_self(scores: Floats, positions: Positions, own: Positions, k: int) -> tuple[Floats, Positions]:
    """Remove each query's own position, (n,), from its hits, (n, m), and keep the best k."""
    is_own = positions == own[:, None]
    order = np.argsort(is_own, axis=1, kind="stable")[:, :k]  # (n, at most k), the own position moves to the end
    others = np.where(is_own, -1, positions)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(others, order, axis=1)


def normalize(vectors: NDArray[Any]) -> Floats:
    """Scale rows, (n, dim), to unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)  # squares can overflow float32
    unit: Floats = (vectors / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return unit
