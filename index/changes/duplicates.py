"""Near-duplicates: groups of items that are nearly the same, by exact comparison of all pairs.

An approximate index would miss pairs; here every pair within the threshold is found. Two items are in one group if a
chain of such pairs connects them (single linkage).
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import near_pairs
from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.training.array_types import Doubles, Floats, Positions
from lookalike.training.progress import progress_bar

__all__ = ["DuplicateGroup", "Duplicates", "near_duplicates"]

SAMPLE = 2_000


@dataclass(frozen=True)
class DuplicateGroup:
    """Items that are nearly the same: ids in the order of the index, and the score of each item with the first."""

    ids: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Duplicates:
    """The groups, the largest first, and the threshold, in the unit of a score.

    A score is the cosine similarity if the metric is cosine, else the Euclidean distance.
    """

    threshold: float
    groups: list[DuplicateGroup]


def near_duplicates(collection: Collection, threshold: float | None = None) -> Duplicates:
    """Return all groups of items that chains of pairs within the threshold connect.

    The threshold is the least cosine similarity, within [-1, 1], or, if the metric is not cosine, the greatest
    Euclidean distance. None means the lower fence of J. Tukey ("Exploratory Data Analysis", 1977) of the logarithms of
    the distances to the nearest neighbors: 3 interquartile ranges below the lower quartile. Nearer pairs are not due to
    chance. Raises QueryError if no score can have the threshold.
    """
    metric, positions = collection.metric, collection.items.passing()
    vectors, inverse = np.unique(collection.vectors_at(positions), axis=0, return_inverse=True)
    reach = _auto_reach(vectors) if threshold is None else _reach(threshold, metric)
    labels = _chained(vectors, reach)[inverse.reshape(-1)]  # (n,), of each item
    order = np.argsort(labels, kind="stable")
    parts = np.split(positions[order], np.flatnonzero(np.diff(labels[order])) + 1)
    groups = sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))
    used = _score(np.array(reach), metric) if threshold is None else threshold
    return Duplicates(float(used), [_group(collection, part) for part in groups])


def _group(collection: Collection, members: Positions) -> DuplicateGroup:
    vectors = collection.vectors_at(members).astype(np.float64)
    scores = _score(np.linalg.norm(vectors - vectors[0], axis=1), collection.metric)
    return DuplicateGroup(collection.items.ids_at(members.tolist()), scores.tolist())


def _score(distance: Doubles, metric: Metric) -> Doubles:
    """Return the score at a Euclidean distance, between vectors of unit length if the metric is cosine."""
    return 1 - distance**2 / 2 if metric == "cosine" else distance


def _reach(threshold: float, metric: Metric) -> float:
    """Return the Euclidean distance of a threshold."""
    low, high, unit = (-1.0, 1.0, "cosine similarity") if metric == "cosine" else (0.0, np.inf, "Euclidean distance")
    if not low <= threshold <= high or not np.isfinite(threshold):
        raise QueryError("threshold", expected=f"auto, or a {unit} within [{low:g}, {high:g}]", found=f"{threshold:g}")
    return float(np.sqrt(2 - 2 * threshold)) if metric == "cosine" else threshold


def _auto_reach(vectors: Floats) -> float:
    """Return the lower fence for unequal vectors, (n, dim), estimated from a sample; 0 if there is one vector."""
    if len(vectors) < 2:
        return 0.0
    some = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(vectors)
    found = search.kneighbors(vectors[some], return_distance=False)  # the vector itself, and its nearest neighbor
    nearest = np.where(found[:, 0] == some, found[:, 1], found[:, 0])
    low, high = np.quantile(np.log(_distances(vectors, some, nearest)), [0.25, 0.75])
    return float(np.exp(low - 3 * (high - low)))


def _distances(vectors: Floats, one: Positions, other: Positions) -> Doubles:
    gaps: Doubles = np.linalg.norm(vectors[one].astype(np.float64) - vectors[other], axis=-1)
    return gaps


def _chained(vectors: Floats, reach: float) -> Positions:
    """(n,): the number of each vector's group; `vectors`: (n, dim)."""
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
