"""Metrics per row: the share of relevant rows among a row's nearest neighbors, and the recovery of damaged rows.

Neighbors at equal distances have no order: if several compete for the last of k places, each counts as a fraction.
`index.evaluation.quality` averages these metrics; `index.evaluation.gate` compares two encoders row by row with them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.training.array_types import Booleans, Doubles, Floats, Integers

__all__ = [
    "Relevance",
    "among_nearest",
    "label_agreement_per_row",
    "neighbors_kept_per_row",
    "recovery_per_row",
    "relevant_shares",
    "same_label",
]

RELATIVE, ABSOLUTE = 1e-5, 1e-6
"""Distances that differ by less than these shares, of the distance and of the median length, count as equal."""
_BLOCK_PAIRS = 1 << 22

Relevance = Callable[[slice], Booleans]
"""A slice of rows -> (rows, n) bool: which other rows are relevant for each of them."""


def neighbors_kept_per_row(
    before: Floats,
    after: Floats,
    metric: Metric,
    k: int = 10,
    *,
    by: Metric = "l2",
    asked: Integers | None = None,
) -> Doubles:
    """Return, for each row, the share of its k nearest neighbors `after` that were also its neighbors `before`.

    Args:
        before: (n, features), compared by the metric `by`.
        after: (n, latent), compared by `metric`.
        asked: (m,) the rows to evaluate; None means all rows. Their neighbors are always searched among all rows.

    Returns:
        (n,) or (m,) float64; 1 if there is no other row; ties as in `neighbours_kept`.
    """
    asked = np.arange(len(after)) if asked is None else asked
    k = min(k, len(after) - 1)
    if k <= 0:
        return np.ones(len(asked))
    return relevant_shares(after, among_nearest(before, k, by, asked), metric, k, asked)


def label_agreement_per_row(embeddings: Floats, names: NDArray[np.str_], metric: Metric, k: int = 10) -> Doubles:
    """Return, for each of n >= 2 rows, (n, latent), the share of its k nearest neighbors with its label: (n,)."""
    return relevant_shares(embeddings, same_label(names), metric, min(k, len(names) - 1))


def recovery_per_row(
    originals: Floats, damaged: Floats, metric: Metric, *, gallery: Floats | None = None, k: int = 10
) -> Doubles:
    """Return, for each damaged row, whether its original is among its k nearest, (n,); with ties, a probability.

    Args:
        originals, damaged: (n, latent) embeddings, row by row.
        gallery: (m, latent) more embeddings to search, in addition to all originals.
    """
    searched = originals if gallery is None else np.concatenate([originals, gallery])  # (n + m, latent)
    chances = np.empty(len(damaged))
    if not len(damaged):
        return chances
    items, queries = _centered(searched, metric, damaged)
    length = _length(items, metric)
    for part in _blocks(len(queries), len(items)):
        gaps = _gaps(queries[part], items, metric)  # (block, n + m)
        own = gaps[np.arange(len(gaps)), np.arange(len(queries))[part]][:, None]  # (block, 1)
        nearer, tied = _before_and_tied(gaps, own, length)
        chances[part] = np.clip((k - nearer.sum(axis=1)) / tied.sum(axis=1), 0, 1)
    return chances


def same_label(labels: NDArray[np.str_]) -> Relevance:
    """Return the relevance of rows with equal labels."""
    return lambda part: labels[part, None] == labels[None, :]


def among_nearest(points: NDArray[Any], k: int, metric: Metric = "l2", rows: Integers | None = None) -> Relevance:
    """Return the relevance of rows that are as near as the k-th nearest neighbor; for `rows`, or for all rows."""
    points, _ = _centered(points, metric)
    rows = np.arange(len(points)) if rows is None else rows
    length, k = _length(points, metric), min(k, len(points) - 1)

    def near(part: slice) -> Booleans:
        gaps = _to_others(points, rows[part], metric)
        before, tied = _before_and_tied(gaps, np.partition(gaps, k - 1, axis=1)[:, k - 1 : k], length)
        return before | tied

    return near


def relevant_shares(
    points: NDArray[Any], relevance: Relevance, metric: Metric, k: int, rows: Integers | None = None
) -> Doubles:
    """Return the share of relevant rows among the k nearest neighbors, 1 <= k < n, of `rows`, (m,), or of all: (m,)."""
    points, _ = _centered(points, metric)
    rows = np.arange(len(points)) if rows is None else rows
    length, shares = _length(points, metric), np.empty(len(rows))
    for part in _blocks(len(rows), len(points)):
        gaps, relevant = _to_others(points, rows[part], metric), relevance(part)  # (block, n)
        before, tied = _before_and_tied(gaps, np.partition(gaps, k - 1, axis=1)[:, k - 1 : k], length)
        weight = (k - before.sum(axis=1)) / tied.sum(axis=1)  # of each tied row
        shares[part] = ((before & relevant).sum(axis=1) + weight * (tied & relevant).sum(axis=1)) / k
    return shares


def _to_others(points: Doubles, rows: Integers, metric: Metric) -> Doubles:
    """Return the gaps of the given rows, (block,), to all rows, (block, n); infinite from a row to itself."""
    gaps = _gaps(points[rows], points, metric)
    gaps[np.arange(len(gaps)), rows] = np.inf
    return gaps


def _gaps(queries: Doubles, points: Doubles, metric: Metric) -> Doubles:
    """(m, dim), (n, dim) -> (m, n) gaps, smaller if nearer: distances, or for ip negative products."""
    products: Doubles = queries @ points.T
    if metric == "ip":
        return -products
    squares = np.square(queries).sum(axis=1)[:, None] + np.square(points).sum(axis=1) - 2 * products
    gaps: Doubles = np.sqrt(np.maximum(squares, 0))
    return gaps


def _before_and_tied(gaps: Doubles, limit: Doubles, length: float) -> tuple[Booleans, Booleans]:
    """Return which gaps, (m, n), are less than `limit`, (m, 1), and which are equal up to rounding."""
    slack = RELATIVE * np.abs(limit) + ABSOLUTE * length
    before = gaps < limit - slack
    return before, ~before & (gaps <= limit + slack)


def _centered(points: NDArray[Any], metric: Metric, others: NDArray[Any] | None = None) -> tuple[Doubles, Doubles]:
    """Return both arrays in float64 minus the medians of `points`, which changes no distance; unchanged for ip.

    A mean would not work: one row far away moves it, and all other rows would lose digits.
    """
    middle = 0.0 if metric == "ip" else np.median(points, axis=0).astype(np.float64)
    others = points if others is None else others
    return points.astype(np.float64) - middle, others.astype(np.float64) - middle


def _length(points: Doubles, metric: Metric) -> float:
    """Return the median length of (n, dim) rows, n >= 1; squared for ip. A single row hardly changes it."""
    square = float(np.median(np.square(points).sum(axis=1)))
    return square if metric == "ip" else square**0.5


def _blocks(count: int, others: int) -> list[slice]:
    size = max(1, _BLOCK_PAIRS // max(1, others))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
