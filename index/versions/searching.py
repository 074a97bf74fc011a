"""A search as the user means it: exact scores, ties in the order of the ids, and only among what a filter allows."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.items.filters import Filter
from lookalike.index.items.table import ItemTable
from lookalike.index.limits import MAX_FOUND, check_limit

__all__ = ["REMEMBERED", "ExactReranker", "Find", "Searcher", "among"]

EXACT = 100_000
"""Up to so many allowed items are always compared with the query one by one, which takes some milliseconds."""
EDGE = 2e-6
"""The relative error of a score that an index computes in float32."""
REMEMBERED = 4
"""Filters for which is kept what they allow."""

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]
Find = Callable[[Vectors, int], Positions]


class ExactReranker(ABC):
    """Ranks what is found by its exact scores, from the embeddings themselves, and by id where those are equal."""

    def __init__(self, embeddings: Embeddings, id_at: Callable[[int], str]) -> None:
        """`id_at`: the id of the item at a position."""
        self.embeddings = embeddings
        self._id_at = id_at

    @abstractmethod
    def finder(self, given: Filter | None) -> Find:
        """What finds, of (n, dim) queries, the k nearest items or more that a filter allows; -1 where there is none.

        Raises:
            QueryError: it is no filter of these items.
        """

    @property
    def metric(self) -> Metric:
        return self.embeddings.metric

    def search(self, queries: Vectors, limit: int, given: Filter | None = None) -> tuple[Vectors, Positions]:
        """The `limit` nearest of each query, best first; what scores the same, in the order of the ids.

        Args:
            queries: (n, dim) float32; for cosine, of unit length.
            limit: from 1 to MAX_FOUND - 1.

        Returns:
            scores: (n, at most limit) float32 in the metric's unit; NaN where there is no hit.
            positions: the same shape, int64; -1 where there is no hit.

        Raises:
            QueryError: queries, limit or filter cannot be searched with.
        """
        check_limit(limit, MAX_FOUND - 1)
        return self._nearest(queries, limit, self.finder(given))

    def _nearest(self, queries: Vectors, limit: int, find: Find, asked: int | None = None) -> tuple[Vectors, Positions]:
        """Find one more than the limit. If its score equals the last one within the index's rounding, others may be as
        near, and more are searched for.

        An embedding of zeros is as like as any by the cosine, 0; what finds takes the distance, and has it before
        others that are more alike. Where more of them come than are looked for beyond the limit, more is asked for.
        """
        asked = limit + 1 if asked is None else asked
        positions = find(queries, asked)
        scores = self.embeddings.scores(queries, positions)
        if self._is_clear(scores, limit):  # as nearly always, of one query
            return scores[:, :limit], positions[:, :limit]
        scores, positions = self._in_order(scores, positions)
        hidden = (self.metric == "cosine") & ((scores == 0).sum(axis=1) > asked - limit)
        scores, positions = scores[:, :asked], positions[:, :asked]
        if asked < MAX_FOUND and positions.shape[1] == asked:
            tied = np.flatnonzero(hidden | self._at_edge(scores, limit))
            scores, positions = scores[:, :limit].copy(), positions[:, :limit].copy()
            if len(tied):
                scores[tied], positions[tied] = self._nearest(queries[tied], limit, find, min(4 * asked, MAX_FOUND))
        return scores[:, :limit], positions[:, :limit]

    def _is_clear(self, scores: Vectors, limit: int) -> bool:
        """Is each of (n, k) scores there, each row in order without equals, and no row `_at_edge`?"""
        if scores.shape[1] <= limit:
            return False
        if len(scores) > 1:
            better, worse = scores[:, :-1], scores[:, 1:]
            falls = (better < worse if self.embeddings.metric == "l2" else better > worse).all()
            return bool(falls) and not self._at_edge(scores, limit).any()
        row = scores[0].tolist()  # for so few numbers NumPy takes several times as long
        if not all(map(operator.lt if self.embeddings.metric == "l2" else operator.gt, row, row[1:])):
            return False
        last, worst = row[limit - 1], row[-1]
        return bool(abs(last - worst) > EDGE * max(abs(last), abs(worst)))

    def _at_edge(self, scores: Vectors, limit: int) -> NDArray[np.bool_]:
        """(n,): of (n, k) scores, k > limit, best first, is the last within a rounding of the one at the limit?"""
        last, worst = scores[:, limit - 1].astype(np.float64), scores[:, -1].astype(np.float64)
        edge: NDArray[np.bool_] = np.abs(last - worst) <= EDGE * np.maximum(np.abs(last), np.abs(worst))
        return edge

    def _in_order(self, scores: Vectors, positions: Positions) -> tuple[Vectors, Positions]:
        """Best first, and equals by id."""
        keys, rows = (scores if self.embeddings.metric == "l2" else -scores), np.arange(len(scores))[:, None]
        keys = np.where(np.isnan(keys), np.float32(np.inf), keys)  # no hit goes last
        order = np.argsort(keys, axis=1, kind="stable")
        ranked = keys[rows, order]
        equal = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] < np.inf)
        for row in np.flatnonzero(equal.any(axis=1)):
            names = [self._id_at(int(place)) for place in np.maximum(positions[row], 0)]
            order[row] = sorted(order[row], key=lambda i: (float(keys[row, i]), names[i]))
        return scores[rows, order], positions[rows, order]


class Searcher(ExactReranker):
    """A version's: its index finds, or a comparison with all that a filter allows, where those are few."""

    def __init__(self, index: VectorIndex, embeddings: Embeddings, items: ItemTable) -> None:
        super().__init__(embeddings, items.id_at)
        self._index = index
        self._among = lru_cache(REMEMBERED)(lambda given: among(index, embeddings, items.allowed(given)))

    def finder(self, given: Filter | None) -> Find:
        if given is not None:
            return self._among(given)
        return lambda queries, k: self._index.search(queries, k)[1]

    def search_among(self, queries: Vectors, limit: int, allowed: NDArray[np.bool_]) -> tuple[Vectors, Positions]:
        """The same among the allowed items, (items,) bool; of fewer than `limit`, all of them."""
        return self._nearest(queries, limit, among(self._index, self.embeddings, allowed))


def among(index: VectorIndex, embeddings: Embeddings, allowed: NDArray[np.bool_]) -> Find:
    """What finds the nearest of the allowed items, (items,) bool.

    All are compared, unless these are very many and the index is sure sooner.
    """
    places = np.flatnonzero(allowed)
    count = len(places)
    if count <= EXACT:
        return lambda queries, k: embeddings.nearest(queries, k, places)[1]
    selection = index.select(allowed)

    def find(queries: Vectors, k: int) -> Positions:
        k = min(k, count)
        positions, settled = index.search_among(queries, k, selection)
        if not settled.all():
            left = ~settled
            positions[left] = embeddings.nearest(queries[left], k, np.flatnonzero(allowed))[1]
        return positions

    return find
