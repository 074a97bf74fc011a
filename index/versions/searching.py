"""The one search path: candidates from an index, exact scores, ties ordered by id, novelty.

SearchSpace    the items: an immutable base (`Base`), or a base with a delta (index.changes.collection)
rank           candidates of a space -> exact scores and positions, best first
Searcher       embeddings, rows or ids -> SearchResult
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import drop_self
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.items.filters import Filter
from lookalike.index.items.table import ItemTable
from lookalike.index.limits import MAX_FOUND, MAX_LIMIT, check_limit
from lookalike.index.versions.distinct import FIRST, MOST, Thinning, payload_interval, thinned
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.novelty import NEIGHBORS, Novelty, encode_with_errors, local_distances
from lookalike.training.array_types import Booleans, Doubles, Floats, Integers, Positions
from lookalike.training.artifact.row_encoder import RowEncoder

__all__ = [
    "CACHED_FILTERS",
    "Base",
    "Find",
    "NoveltyOfParts",
    "SearchResult",
    "SearchSpace",
    "Searcher",
    "among",
    "rank",
]

EXACT = 100_000
"""At most this many allowed items are compared with the query one by one, which takes some milliseconds."""
EDGE = 2e-6  # The relative error of a score that an index computes in float32
CACHED_FILTERS = 4  # The number of filters whose allowed items are cached
CACHED_INTERVALS = 1 << 16  # The number of items whose interval is cached

Find = Callable[[Floats, int], Positions]
"""(n, dim) queries and k -> the positions of k nearest items or more, (n, >= k); -1 for no item."""

NoveltyOfParts = Callable[[Floats], list[tuple[Integers, Novelty]]]
"""(n, width) raw rows -> the numbers of the parts of rows, and their novelty (index.versions.part_novelty)."""


@dataclass(frozen=True)
class SearchResult:
    """The hits of some queries.

    Attributes:
        scores: (n, at most limit) float32 in the metric's unit, best first; NaN for no hit.
        positions: the same shape, int64; -1 for no hit.
        novelty: (n,) float64 in (0, 1], the p-value of each query: how often a held-out row is as unusual.
        sequence: the last change of the change log that the search included; 0 if there are no changes.
    """

    scores: Floats
    positions: Positions
    novelty: Doubles
    sequence: int = 0


class SearchSpace(Protocol):
    """The items that a search ranks, each at a position."""

    @property
    def metric(self) -> Metric: ...

    def finder(self, filter_: Filter | None) -> Find:
        """Return the function that finds the nearest items which pass a filter.

        Raises QueryError if the filter does not fit the items.
        """

    def comparer(self, filter_: Filter | None) -> Find:
        """Return the function that compares all items which pass a filter. Raises QueryError as `finder` does."""

    def scores(self, queries: Floats, positions: Positions) -> Floats:
        """(n, k): the exact score of each query, (n, dim), with the items at its positions, (n, k); NaN at -1."""

    def vectors_at(self, positions: Positions) -> Floats:
        """(m, dim): a copy of the embeddings at positions, (m,)."""

    def local_scale_at(self, positions: Positions) -> Floats:
        """(...): the distance of each item to its neighbors (index.versions.novelty); any value at -1."""

    def id_at(self, position: int) -> str: ...

    def payload_json(self, position: int) -> str: ...

    def positions(self, ids: Sequence[str]) -> Positions:
        """(n,): the positions of ids, in their order. Raises UnknownItemError for an id that no item has."""


class Base:
    """The items of a version, which never change: its index finds, or a comparison with the few allowed items."""

    def __init__(self, index: VectorIndex, embeddings: Embeddings, items: ItemTable, local_scale: Floats) -> None:
        self.index = index
        self.embeddings = embeddings
        self.items = items
        self.local_scale = local_scale
        self.scores, self.vectors_at = embeddings.scores, embeddings.at
        self.id_at, self.positions, self.payload_json = items.id_at, items.positions, items.payload_json
        self._filtered = lru_cache(CACHED_FILTERS)(lambda filter_: among(index, embeddings, items.allowed(filter_)))

    @property
    def metric(self) -> Metric:
        return self.embeddings.metric

    def finder(self, filter_: Filter | None) -> Find:
        if filter_ is not None:
            return self._filtered(filter_)
        compared = self.comparer(None)

        def find(queries: Floats, k: int) -> Positions:
            positions = self.index.search(queries, k)[1]
            return _completed(positions, queries, k, compared)

        return find

    def comparer(self, filter_: Filter | None) -> Find:
        places = None if filter_ is None else np.flatnonzero(self.items.allowed(filter_))
        return lambda queries, k: self.embeddings.nearest(queries, k, places)[1]

    def local_scale_at(self, positions: Positions) -> Floats:
        return np.take(self.local_scale, positions, mode="clip")


class Searcher:
    """Searches a space with embeddings, raw rows or ids."""

    def __init__(
        self, space: SearchSpace, encoder: RowEncoder, novelty: Novelty, of_parts: NoveltyOfParts | None = None
    ) -> None:
        """`of_parts`: None if no row has missing columns."""
        self.space = space
        self._encoder = encoder
        self._novelty = novelty
        self._of_parts = of_parts
        self._interval_at = lru_cache(CACHED_INTERVALS)(
            partial(payload_interval, space)
        )  # a position's item never changes

    def search(
        self,
        embeddings: Floats,
        limit: int,
        filter_: Filter | None = None,
        *,
        errors: Doubles | None = None,
        rows: Floats | None = None,
        own: Positions | None = None,
        thinning: Thinning | None = None,
    ) -> SearchResult:
        """Find the `limit` nearest items of each embedding, (n, latent_dim), among those that pass a filter.

        `errors`, (n,), are the reconstruction errors of the embedded `rows`, (n, width) raw; None if the queries are no
        rows. `own`, (n,), is the position of each query that is an item, which is not among its own hits. `thinning`
        leaves out hits that overlap better hits; it does not change the novelty. Raises QueryError if embeddings, limit
        or filter are invalid.
        """
        check_limit(limit, MAX_LIMIT)
        wanted = limit if thinning is None else min(FIRST * limit, MOST)
        scores, positions = self._others(embeddings, max(wanted, NEIGHBORS), None, own)
        scale = self.space.local_scale_at(positions[:, :NEIGHBORS])
        distances = local_distances(scores[:, :NEIGHBORS], scale, self.space.metric)
        if filter_ is not None:
            scores, positions = self._others(embeddings, wanted, filter_, own)
        if thinning is not None:

            def find(numbers: Integers, k: int, exact: bool) -> tuple[Floats, Positions]:
                of_these = None if own is None else own[numbers]
                return self._others(embeddings[numbers], k, filter_, of_these, exact=exact)

            scores, positions = thinned((scores, positions), find, self._interval_at, limit, thinning, own)
        novelty = self._novelty.p_values(errors, distances)
        if self._of_parts is not None and rows is not None:
            for numbers, of_these in self._of_parts(rows):
                novelty[numbers] = of_these.p_values(None if errors is None else errors[numbers], distances[numbers])
        return SearchResult(scores[:, :limit], positions[:, :limit], novelty)

    def search_rows(
        self, rows: Floats, limit: int, filter_: Filter | None = None, thinning: Thinning | None = None
    ) -> SearchResult:
        """Search with raw rows, (n, width); their novelty includes the reconstruction error."""
        latent, errors = encode_with_errors(self._encoder, rows)
        embeddings = in_metric(latent, self.space.metric)
        return self.search(embeddings, limit, filter_, errors=errors, rows=rows, thinning=thinning)

    def search_items(
        self, ids: Sequence[str], limit: int, filter_: Filter | None = None, thinning: Thinning | None = None
    ) -> SearchResult:
        """Search with items; no item is among its own hits.

        Raises UnknownItemError for an id that no item has, and QueryError if limit or filter are invalid.
        """
        own = self.space.positions(ids)
        return self.search(self.space.vectors_at(own), limit, filter_, own=own, thinning=thinning)

    def _others(
        self,
        embeddings: Floats,
        limit: int,
        filter_: Filter | None,
        own: Positions | None,
        *,
        exact: bool = False,
    ) -> tuple[Floats, Positions]:
        find = self.space.comparer(filter_) if exact else None
        if own is None:
            return rank(self.space, embeddings, limit, filter_, find=find)
        return drop_self(*rank(self.space, embeddings, limit + 1, filter_, find=find), own, limit)


def rank(
    space: SearchSpace, queries: Floats, limit: int, filter_: Filter | None = None, *, find: Find | None = None
) -> tuple[Floats, Positions]:
    """Find the `limit` nearest items of each query by exact scores, best first; ties are ordered by id.

    The queries are (n, dim) float32, of unit length if the metric is cosine. The limit is from 1 to MAX_FOUND - 1.
    `find` finds the candidates instead of the space's own finder. Returns scores, (n, at most limit) float32 in the
    metric's unit, NaN for no hit, and positions of the same shape, int64, -1 for no hit. Raises QueryError if queries,
    limit or filter are invalid.
    """
    check_limit(limit, MAX_FOUND - 1)
    return _rank(space, queries, limit, find or space.finder(filter_), limit + 1)


def _rank(space: SearchSpace, queries: Floats, limit: int, find: Find, wanted: int) -> tuple[Floats, Positions]:
    """Find `wanted` candidates, one more than the limit at first.

    If the score of the last candidate equals the score at the limit within the index's rounding, other items may be as
    near, so the search is repeated with more candidates. An embedding of zeros has the cosine 0 with every query, but
    the index ranks it by its distance, before items that are more similar. If more such embeddings are found than there
    are spare candidates, the search is repeated too.
    """
    positions = find(queries, wanted)
    scores = space.scores(queries, positions)
    if _is_clear(space.metric, scores, limit):  # as nearly always, for one query
        return scores[:, :limit], positions[:, :limit]
    scores, positions = _in_order(space, scores, positions)
    hidden = (space.metric == "cosine") & ((scores == 0).sum(axis=1) > wanted - limit)
    scores, positions = scores[:, :wanted], positions[:, :wanted]
    if wanted < MAX_FOUND and positions.shape[1] == wanted:
        tied = np.flatnonzero(hidden | _at_edge(scores, limit))
        scores, positions = scores[:, :limit].copy(), positions[:, :limit].copy()
        if len(tied):
            more = _rank(space, queries[tied], limit, find, min(4 * wanted, MAX_FOUND))
            scores[tied], positions[tied] = more
    return scores[:, :limit], positions[:, :limit]


def _is_clear(metric: Metric, scores: Floats, limit: int) -> bool:
    """Whether all (n, k) scores exist, each row is in order without ties, and no row is `_at_edge`."""
    if scores.shape[1] <= limit:
        return False
    if len(scores) > 1:
        better, worse = scores[:, :-1], scores[:, 1:]
        falls = (better < worse if metric == "l2" else better > worse).all()
        return bool(falls) and not _at_edge(scores, limit).any()
    row = scores[0].tolist()  # for a few numbers NumPy takes several times as long
    if not all(map(operator.lt if metric == "l2" else operator.gt, row, row[1:])):
        return False
    last, worst = row[limit - 1], row[-1]
    return bool(abs(last - worst) > EDGE * max(abs(last), abs(worst)))


def _at_edge(scores: Floats, limit: int) -> Booleans:
    """(n,): whether the last of (n, k) scores, k > limit, best first, equals the one at the limit but for rounding."""
    last, worst = scores[:, limit - 1].astype(np.float64), scores[:, -1].astype(np.float64)
    edge: Booleans = np.abs(last - worst) <= EDGE * np.maximum(np.abs(last), np.abs(worst))
    return edge


def _in_order(space: SearchSpace, scores: Floats, positions: Positions) -> tuple[Floats, Positions]:
    """Sort best first, ties by id."""
    keys, rows = (scores if space.metric == "l2" else -scores), np.arange(len(scores))[:, None]
    keys = np.where(np.isnan(keys), np.float32(np.inf), keys)  # no hit is last
    order = np.argsort(keys, axis=1, kind="stable")
    ranked = keys[rows, order]
    equal = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] < np.inf)
    for row in np.flatnonzero(equal.any(axis=1)):
        ids = [space.id_at(int(position)) for position in np.maximum(positions[row], 0)]
        order[row] = sorted(order[row], key=lambda i: (float(keys[row, i]), ids[i]))
    return scores[rows, order], positions[rows, order]


def among(index: VectorIndex, embeddings: Embeddings, allowed: Booleans) -> Find:
    """Return the function that finds the nearest of the allowed items, (items,) bool.

    Every allowed item is compared with the query, unless there are many and the index is certain earlier.
    """
    places = np.flatnonzero(allowed)
    count = len(places)
    if count <= EXACT:
        return lambda queries, k: embeddings.nearest(queries, k, places)[1]
    selection = index.select(allowed)

    def compared(queries: Floats, k: int) -> Positions:
        return embeddings.nearest(queries, k, np.flatnonzero(allowed))[1]

    def find(queries: Floats, k: int) -> Positions:
        positions, settled = index.search_among(queries, min(k, count), selection)
        positions[~settled] = -1
        return _completed(positions, queries, k, compared)

    return find


def _completed(positions: Positions, queries: Floats, k: int, compared: Find) -> Positions:
    """Return positions, (n, at most k), without -1: a query for which the index found too few is compared with items.

    An index that visits few lists finds too few if they have fewer items than k, for example if many rows are equal.
    """
    short = (positions[:, -1:] < 0).any(axis=1)
    if short.any():
        positions[short] = compared(queries[short], k)
    return positions
