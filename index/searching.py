"""A search as the user means it: exact scores, ties in the order of the ids, and only among what a filter allows."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from index.embeddings import Embeddings
from index.filters import Filter
from index.items import ItemTable
from index.spec import Metric
from index.vectors import MAX_FOUND, VectorIndex, check_limit

__all__ = ["Searcher"]

EXACT = 100_000
"""Up to so many allowed items are always compared with the query one by one, which takes some milliseconds."""
REMEMBERED = 4
"""Filters for which is kept what they allow."""

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]
Find = Callable[[Vectors, int], Positions]


class Searcher:
    """An index, with the embeddings that it was made of and the items that they stand for."""

    def __init__(self, index: VectorIndex, embeddings: Embeddings, items: ItemTable) -> None:
        self._index = index
        self._embeddings = embeddings
        self._items = items
        self._among = lru_cache(REMEMBERED)(lambda given: _among(index, embeddings, items.allowed(given)))

    @property
    def metric(self) -> Metric:
        return self._embeddings.metric

    def search(self, queries: Vectors, limit: int, given: Filter | None = None) -> tuple[Vectors, Positions]:
        """The `limit` nearest of each query, best first; what scores the same, in the order of the ids.

        The index finds them, and their scores are worked out from the embeddings themselves. Among the items that a
        filter allows they are found by comparison with all, unless these are very many and the index is sure sooner.

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
        if given is None:
            return self._nearest(queries, limit, lambda some, k: self._index.search(some, k)[1])
        return self._nearest_among(queries, limit, *self._among(given))

    def search_among(self, queries: Vectors, limit: int, allowed: NDArray[np.bool_]) -> tuple[Vectors, Positions]:
        """The same among the allowed items, (items,) bool; of fewer than `limit`, all of them."""
        return self._nearest_among(queries, limit, *_among(self._index, self._embeddings, allowed))

    def _nearest_among(self, queries: Vectors, limit: int, count: int, find: Find) -> tuple[Vectors, Positions]:
        return self._nearest(queries, min(limit, max(1, count)), find)

    def _nearest(self, queries: Vectors, limit: int, find: Find, asked: int | None = None) -> tuple[Vectors, Positions]:
        """One more than the limit is looked for: where it scores as the last does, equals have to be told apart."""
        asked = limit + 1 if asked is None else asked
        positions = find(queries, asked)
        scores = self._embeddings.scores(queries, positions)
        if self._falls(scores):  # as nearly always, of one query
            return scores[:, :limit], positions[:, :limit]
        scores, positions = self._in_order(scores, positions)
        if asked < MAX_FOUND and positions.shape[1] == asked:
            tied = np.flatnonzero(scores[:, limit - 1] == scores[:, -1])
            scores, positions = scores[:, :limit].copy(), positions[:, :limit].copy()
            if len(tied):
                scores[tied], positions[tied] = self._nearest(queries[tied], limit, find, min(4 * asked, MAX_FOUND))
        return scores[:, :limit], positions[:, :limit]

    def _falls(self, scores: Vectors) -> bool:
        """Is each of (n, k) there, k > 1, and each row in order without equals?"""
        better, worse = scores[:, :-1], scores[:, 1:]
        falls = (better < worse if self._embeddings.metric == "l2" else better > worse).all()
        return bool(falls) and scores.shape[1] > 1

    def _in_order(self, scores: Vectors, positions: Positions) -> tuple[Vectors, Positions]:
        """Best first, and equals by id."""
        keys, rows = (scores if self._embeddings.metric == "l2" else -scores), np.arange(len(scores))[:, None]
        keys = np.where(np.isnan(keys), np.float32(np.inf), keys)  # no hit goes last
        order = np.argsort(keys, axis=1, kind="stable")
        ranked = keys[rows, order]
        equal = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] < np.inf)
        for row in np.flatnonzero(equal.any(axis=1)):
            names = [self._items.id_at(int(place)) for place in np.maximum(positions[row], 0)]
            order[row] = sorted(order[row], key=lambda i: (float(keys[row, i]), names[i]))
        return scores[rows, order], positions[rows, order]


def _among(index: VectorIndex, embeddings: Embeddings, allowed: NDArray[np.bool_]) -> tuple[int, Find]:
    """How many items are allowed, (items,) bool, and what finds the nearest of them."""
    places = np.flatnonzero(allowed)
    count = len(places)
    if count <= EXACT:
        return count, lambda queries, k: embeddings.nearest(queries, k, places)[1]
    selection = index.select(allowed)

    def find(queries: Vectors, k: int) -> Positions:
        k = min(k, count)
        positions, settled = index.search_among(queries, k, selection)
        if not settled.all():
            left = ~settled
            positions[left] = embeddings.nearest(queries[left], k, np.flatnonzero(allowed))[1]
        return positions

    return count, find
