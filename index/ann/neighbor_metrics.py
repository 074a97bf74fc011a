"""Row by row: which share of a row's nearest others is right, and does a damaged row find its original?

Neighbours at one distance have no order: such as compete for the last of k places share them.
`index.evaluation.quality` takes the means of these, and `index.evaluation.gate` compares two encoders by them, row with
row.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric

__all__ = ["Right", "as_near", "each_alike", "each_found_again", "each_kept", "right_shares", "same_name"]

RELATIVE, ABSOLUTE = 1e-5, 1e-6
"""Distances count as equal within this share of themselves, and of the embeddings' median length: rounding."""
_BLOCK_PAIRS = 1 << 22

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Right = Callable[[slice], NDArray[np.bool_]]
"""Some rows' places -> (rows, n): which others are right for each."""


def each_kept(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    metric: Metric,
    k: int = 10,
    *,
    by: Metric = "l2",
    asked: NDArray[np.int64] | None = None,
) -> Doubles:
    """The share of each row's k nearest others `after` that were so `before`; 1 where there is no other.

    Args:
        before: (n, features), compared by the metric `by`.
        after: (n, latent), compared by `metric`.
        asked: (m,) which rows are asked for, among all; None for all of them.

    Returns:
        (n,) or (m,) float64; ties as in `neighbours_kept`.
    """
    asked = np.arange(len(after)) if asked is None else asked
    k = min(k, len(after) - 1)
    return right_shares(after, as_near(before, k, by, asked), metric, k, asked) if k > 0 else np.ones(len(asked))


def each_alike(embeddings: NDArray[np.float32], names: NDArray[np.str_], metric: Metric, k: int = 10) -> Doubles:
    """(n,): of each row's k nearest others by the embedding, (n, latent), n >= 2, the share that has its name, (n,)."""
    return right_shares(embeddings, same_name(names), metric, min(k, len(names) - 1))


def each_found_again(
    originals: Floats, damaged: Floats, metric: Metric, *, gallery: Floats | None = None, k: int = 10
) -> Doubles:
    """(n,): is each damaged row's original among its k nearest? Ties share the last places.

    Args:
        originals, damaged: (n, latent) embeddings, row by row.
        gallery: (m, latent) to search beside all originals.
    """
    searched = originals if gallery is None else np.concatenate([originals, gallery])  # (n + m, latent)
    chances = np.empty(len(damaged))
    if not len(damaged):
        return chances
    items, queries = _centred(searched, metric, damaged)
    length = _length(items, metric)
    for part in _blocks(len(queries), len(items)):
        gaps = _gaps(queries[part], items, metric)  # (block, n + m)
        own = gaps[np.arange(len(gaps)), np.arange(len(queries))[part]][:, None]  # (block, 1)
        nearer, tied = _before_and_tied(gaps, own, length)
        chances[part] = np.clip((k - nearer.sum(axis=1)) / tied.sum(axis=1), 0, 1)
    return chances


def same_name(names: NDArray[np.str_]) -> Right:
    """Which others have a row's name."""
    return lambda part: names[part, None] == names[None, :]


def as_near(points: NDArray[Any], k: int, metric: Metric = "l2", asked: NDArray[np.int64] | None = None) -> Right:
    """Which others are as near to a row, of those `asked` or of all, as its k-th nearest is."""
    points, _ = _centred(points, metric)
    asked = np.arange(len(points)) if asked is None else asked
    length, k = _length(points, metric), min(k, len(points) - 1)

    def near(part: slice) -> NDArray[np.bool_]:
        gaps = _to_others(points, asked[part], metric)
        before, tied = _before_and_tied(gaps, np.partition(gaps, k - 1, axis=1)[:, k - 1 : k], length)
        return before | tied

    return near


def right_shares(
    points: NDArray[Any], right: Right, metric: Metric, k: int, asked: NDArray[np.int64] | None = None
) -> Doubles:
    """(m,): of each asked row's k nearest others, 1 <= k < n, the share that is right; ties share the last places."""
    points, _ = _centred(points, metric)
    asked = np.arange(len(points)) if asked is None else asked
    length, shares = _length(points, metric), np.empty(len(asked))
    for part in _blocks(len(asked), len(points)):
        gaps, good = _to_others(points, asked[part], metric), right(part)  # (block, n)
        before, tied = _before_and_tied(gaps, np.partition(gaps, k - 1, axis=1)[:, k - 1 : k], length)
        room = (k - before.sum(axis=1)) / tied.sum(axis=1)  # for each that ties
        shares[part] = ((before & good).sum(axis=1) + room * (tied & good).sum(axis=1)) / k
    return shares


def _to_others(points: Doubles, asked: NDArray[np.int64], metric: Metric) -> Doubles:
    """(block, n), of the rows `asked`, (block,); a row is farthest from itself."""
    gaps = _gaps(points[asked], points, metric)
    gaps[np.arange(len(gaps)), asked] = np.inf
    return gaps


def _gaps(some: Doubles, everyone: Doubles, metric: Metric) -> Doubles:
    """(m, dim), (n, dim) -> (m, n), less where nearer: distances, or for ip the products' negatives."""
    products: Doubles = some @ everyone.T
    if metric == "ip":
        return -products
    squares = np.square(some).sum(axis=1)[:, None] + np.square(everyone).sum(axis=1) - 2 * products
    gaps: Doubles = np.sqrt(np.maximum(squares, 0))
    return gaps


def _before_and_tied(gaps: Doubles, limit: Doubles, length: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of (m, n) are less than `limit` (m, 1), and which are the same up to rounding."""
    slack = RELATIVE * np.abs(limit) + ABSOLUTE * length
    before = gaps < limit - slack
    return before, ~before & (gaps <= limit + slack)


def _centred(points: NDArray[Any], metric: Metric, others: NDArray[Any] | None = None) -> tuple[Doubles, Doubles]:
    """Both as float64, less the medians of the first, which changes no distance; products stay as they were.

    The median, because one row far away moves a mean, and the others then lose digits.
    """
    middle = 0.0 if metric == "ip" else np.median(points, axis=0).astype(np.float64)
    others = points if others is None else others
    return points.astype(np.float64) - middle, others.astype(np.float64) - middle


def _length(points: Doubles, metric: Metric) -> float:
    """The median length of (n, dim), n >= 1; squared if gaps are products. One row does not change it much."""
    square = float(np.median(np.square(points).sum(axis=1)))
    return square if metric == "ip" else square**0.5


def _blocks(count: int, others: int) -> list[slice]:
    size = max(1, _BLOCK_PAIRS // max(1, others))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
