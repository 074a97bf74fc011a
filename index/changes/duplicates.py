"""Near-duplicates: which items are nearly the same, by exact comparison of all with all.

An approximate index misses pairs that no search met; here every pair within the threshold is found. Items belong to
one group where a chain of such pairs leads from one to the other (single linkage).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import near_pairs
from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.training.progress import progress_bar

__all__ = ["DuplicateGroup", "Duplicates", "near_duplicates"]

SAMPLE = 2_000
FENCE = 3.0

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class DuplicateGroup:
    """Items that are nearly the same: ids in the order of the index, and the score of each to the first."""

    ids: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Duplicates:
    """The groups, the largest first, and the threshold that they were found at, in the unit of a score.

    A score is the cosine similarity where the metric is cosine, and otherwise the Euclidean distance.
    """

    threshold: float
    groups: list[DuplicateGroup]


def near_duplicates(collection: Collection, threshold: float | None = None) -> Duplicates:
    """All groups of items that a chain of pairs within the threshold connects.

    Args:
        threshold: the least cosine similarity, within [-1, 1], or, where the metric is not cosine, the greatest
            Euclidean distance. None takes the lower fence of J. Tukey ("Exploratory Data Analysis", 1977) of the
            logarithms of the distances from items to their nearest: what is farther out than 3 interquartile
            ranges below the lower quartile is nearer than chance brings it.

    Raises:
        QueryError: a threshold that no score can have.
    """
    metric, everyone = collection.metric, collection.items.passing()
    vectors, inverse = np.unique(collection.vectors_at(everyone), axis=0, return_inverse=True)
    reach = _auto_reach(vectors) if threshold is None else _reach(threshold, metric)
    labels = _chained(vectors, reach)[inverse.reshape(-1)]  # (n,), of each item
    order = np.argsort(labels, kind="stable")
    parts = np.split(everyone[order], np.flatnonzero(np.diff(labels[order])) + 1)
    groups = sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))
    told = _score(np.array(reach), metric) if threshold is None else threshold
    return Duplicates(float(told), [_group(collection, part) for part in groups])


def _group(collection: Collection, members: Positions) -> DuplicateGroup:
    vectors = collection.vectors_at(members).astype(np.float64)
    scores = _score(np.linalg.norm(vectors - vectors[0], axis=1), collection.metric)
    return DuplicateGroup([collection.items.id_at(int(place)) for place in members], [float(score) for score in scores])


def _score(distance: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Between vectors of unit length, where the metric is cosine, at this Euclidean distance."""
    return 1 - distance**2 / 2 if metric == "cosine" else distance


def _reach(threshold: float, metric: Metric) -> float:
    """The Euclidean distance that a threshold allows."""
    low, high, unit = (-1.0, 1.0, "cosine similarity") if metric == "cosine" else (0.0, np.inf, "Euclidean distance")
    if not low <= threshold <= high or not np.isfinite(threshold):
        raise QueryError("threshold", expected=f"auto, or a {unit} within [{low:g}, {high:g}]", found=f"{threshold:g}")
    return float(np.sqrt(2 - 2 * threshold)) if metric == "cosine" else threshold


def _auto_reach(vectors: Vectors) -> float:
    """From a sample of unequal vectors, (n, dim), and their nearest among all; 0 where there is no other."""
    if len(vectors) < 2:
        return 0.0
    some = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(vectors)
    found = search.kneighbors(vectors[some], return_distance=False)  # itself, and its nearest
    nearest = np.where(found[:, 0] == some, found[:, 1], found[:, 0])
    low, high = np.quantile(np.log(_distances(vectors, some, nearest)), [0.25, 0.75])
    return float(np.exp(low - FENCE * (high - low)))


def _distances(vectors: Vectors, one: Positions, other: Positions) -> NDArray[np.float64]:
    gaps: NDArray[np.float64] = np.linalg.norm(vectors[one].astype(np.float64) - vectors[other], axis=-1)
    return gaps


def _chained(vectors: Vectors, reach: float) -> Positions:
    """(n,): the group that each of the vectors, (n, dim), belongs to."""
    labels = np.arange(len(vectors))
    with progress_bar("comparing", len(vectors), "items") as advance:
        for count, one, other in near_pairs(vectors, reach):
            close = _distances(vectors, one, other) <= reach
            if close.any():
                ends = labels[one[close]], labels[other[close]]
                links = coo_array((np.ones(len(ends[0]), bool), ends), shape=(len(labels),) * 2)
                labels = connected_components(links, directed=False)[1].astype(np.int64)[labels]
            advance(count)
    return labels
