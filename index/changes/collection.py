"""A version and what has changed since, searched as one: as if it had been built from what there is now."""

from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import best_first, drop_own
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import comparable, nearest
from lookalike.index.changes.change import Change
from lookalike.index.changes.delta import Delta
from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import StoreError
from lookalike.index.items.filters import Filter
from lookalike.index.limits import MAX_FOUND
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.novelty import NEIGHBOURS, encode_with_errors, mean_distances
from lookalike.index.versions.searching import REMEMBERED, ExactReranker, Find, among
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Search, SearchResult, Version
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.choices import DeviceName

__all__ = ["Collection", "embedded", "open_collection"]

SAMPLED = 1 << 16
"""Of so many items `index.versions.novelty.item_distances` knows the distances to the nearest."""
FEW = 8
"""More than twice as many are asked for, where some may be gone."""

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]


class Collection:
    """An open version, to which changes are applied in the order of the log; for one thread at a time.

    What a search found stands at positions that stay what they are, so `items` can be asked at any time.
    """

    def __init__(self, version: Version) -> None:
        self.version = version
        self.items = Delta(version.items, version.embeddings.vectors, version.local_scale)
        self.applied = version.sequence
        """The sequence number up to which it knows the log."""
        self._search = Search(_Together(version, self.items), self.items.local_scale, version.novelty)

    @property
    def number(self) -> int:
        return self.version.number

    @property
    def encoder(self) -> Encoder:
        return self.version.encoder

    @property
    def metric(self) -> Metric:
        return self.version.metric

    @property
    def embeddings(self) -> Embeddings:
        """All embeddings by position, also of what is gone."""
        return self._search.ranker.embeddings

    @property
    def is_changed(self) -> bool:
        return self.items.new > 0 or self.items.gone_of_base > 0

    def apply(self, changes: Sequence[Change], embeddings: Vectors) -> None:
        """Take changes in, in the order of the log.

        Args:
            embeddings: (n, latent_dim) of what each change puts; a deletion's row does not count. An item whose
                embedding is not finite and within MAX_VALUE, which this encoder cannot read, is kept in the log and
                not found.
        """
        puts = np.array([not change.is_delete for change in changes], np.bool_)
        puts &= comparable(embeddings)
        local_scale = np.ones(len(changes), np.float32)
        local_scale[puts] = self._local_scale(
            [change.id for change, put in zip(changes, puts, strict=True) if put], embeddings[puts]
        )
        for change, put, embedding, distance in zip(changes, puts, embeddings, local_scale, strict=True):
            if put:
                self.items.put(change.id, embedding, float(distance), change.payload or "{}")
            else:
                self.items.drop(change.id)
            self.applied = max(self.applied, change.sequence)

    def search(
        self,
        embeddings: Vectors,
        limit: int,
        given: Filter | None = None,
        *,
        errors: NDArray[np.float64] | None = None,
        own: Positions | None = None,
    ) -> SearchResult:
        """As `Version.search`, among the items that there are now."""
        if not self.is_changed:
            return self.version.search(embeddings, limit, given, errors=errors, own=own)
        return self._search.find(embeddings, limit, given, errors=errors, own=own)

    def search_rows(self, rows: Vectors, limit: int, given: Filter | None = None) -> SearchResult:
        """As `Version.search_rows`."""
        latent, errors = encode_with_errors(self.encoder, rows)
        return self.search(in_metric(latent, self.metric), limit, given, errors=errors)

    def search_items(self, ids: list[str], limit: int, given: Filter | None = None) -> SearchResult:
        """As `Version.search_items`.

        Raises:
            UnknownItemError: no item has one of the ids now.
        """
        own = self.items.positions(ids)
        return self.search(self.embeddings.at(own), limit, given, own=own)

    def _local_scale(self, ids: list[str], embeddings: Vectors) -> Vectors:
        """(n,): the mean distance of each to its NEIGHBOURS nearest of the version, but not to what it replaces.

        As `index.versions.novelty.item_distances` has it, of a sample of SAMPLED: of a part of all items the nearest
        are, by chance, every so-many-th nearest of all.
        """
        index = self.version.index
        step = max(1.0, len(index) / SAMPLED)
        ranks = np.ceil(step * np.arange(1, NEIGHBOURS + 1)).astype(np.int64)
        own = np.array([-1 if place is None else place for place in map(self.version.items.find, ids)], np.int64)
        if len(index) < 2 or not ids:
            return np.ones(len(ids), np.float32)
        most = min(int(ranks[-1]), MAX_FOUND - 1)
        _, found = drop_own(*index.search(embeddings, most + 1), own, most)
        scores = best_first(self.version.embeddings.scores(embeddings, found), self.metric)
        scores = scores[:, ranks[ranks <= found.shape[1]] - 1]
        return mean_distances(scores, self.metric).astype(np.float32)


class _Together(ExactReranker):
    """Searches a version and the new items beside it, without those that are gone."""

    def __init__(self, version: Version, live: Delta) -> None:
        super().__init__(Embeddings(cast(Vectors, live), version.metric), live.id_at)
        self._version = version
        self._live = live
        # it knows not `self`, which would be kept until the next full collection of garbage, and all its arrays with it
        self._among_base = lru_cache(REMEMBERED)(partial(_allowed_of_base, version, live))

    def finder(self, given: Filter | None) -> Find:
        """What finds the nearest of both: twice as many as are asked for, in no order."""
        base, new = self._in_base(given), self._in_new(given)
        return lambda queries, k: np.concatenate([base(queries, k), new(queries, k)], axis=1)

    def _in_base(self, given: Filter | None) -> Find:
        version = self._version
        gone = self._live.gone[: len(version.index)]
        allowed, find = (None, version.searcher.finder(None)) if given is None else self._among_base(given)
        if not self._live.gone_of_base:
            return find

        def compared(queries: Vectors, k: int) -> Positions:
            left = ~gone if allowed is None else allowed & ~gone
            return version.embeddings.nearest(queries, k, np.flatnonzero(left))[1]

        return lambda queries, k: _without(gone, find, compared, queries, k, 2 * k + FEW)

    def _in_new(self, given: Filter | None) -> Find:
        places, vectors, first = *self._live.there(), len(self._version.index)
        if given is not None:
            some = self._live.allowed(given)[1][places]
            places, vectors = places[some], vectors[some]

        def find(queries: Vectors, k: int) -> Positions:
            if not len(places):
                return np.empty((len(queries), 0), np.int64)
            return first + places[nearest(queries, vectors, k, self._version.metric)[1]]

        return find


def _allowed_of_base(version: Version, live: Delta, given: Filter) -> tuple[NDArray[np.bool_], Find]:
    """Which of the version's items pass a filter, (n,), and what finds the nearest of them."""
    allowed = live.allowed(given)[0]
    return allowed, among(version.index, version.embeddings, allowed)


def _without(gone: NDArray[np.bool_], find: Find, compared: Find, queries: Vectors, k: int, asked: int) -> Positions:
    """(n, at most k): the nearest that are not gone.

    Where too many are gone `find` is asked for more, and where it has no more, though there may be some (the lists
    that it looks into have run dry), all are compared.
    """
    asked = min(asked, MAX_FOUND)
    found = find(queries, asked)
    there = np.where((found >= 0) & ~gone.take(found, mode="clip"), found, -1)
    there = np.take_along_axis(there, np.argsort(there < 0, axis=1, kind="stable"), axis=1)[:, :k]
    if there.shape[1] == k and (there[:, -1] >= 0).all():  # as nearly always
        return there
    short, dry = (there >= 0).sum(axis=1) < k, (found[:, -1:] < 0).any(axis=1)
    full = short & ~dry & (found.shape[1] == asked)  # of fewer, a row that is not dry has all there are

    def farther(queries: Vectors, k: int) -> Positions:
        return _without(gone, find, compared, queries, k, 4 * asked)

    for rows, look in ((short & dry, compared), (full, compared if asked == MAX_FOUND else farther)):
        if rows.any():
            more = look(queries[rows], k)
            there[rows] = -1
            there[rows, : more.shape[1]] = more
    return there


def open_collection(store: Store, number: int, device: DeviceName = "cpu", upto: int | None = None) -> Collection:
    """Verify and open a version, and apply the log to it.

    Args:
        upto: the sequence number up to which; None for all that is there.

    Raises:
        StoreError: there is no such version, or the log's items are others than it takes, or do not go on where
            it ends.
        ArtifactError: the version or the log is damaged.
    """
    collection = Collection(store.open(number, device))
    with closing(ChangeLog(store.folder)) as log:
        _check_fit(collection.version, log)
        upto = log.last() if upto is None else upto
        for changes in log.current(collection.applied, upto):
            collection.apply(changes, embedded(collection.version, changes))
        collection.applied = max(collection.applied, upto)
    return collection


def _check_fit(version: Version, log: ChangeLog) -> None:
    about, width, last = f"version {version.number}", log.width(), log.last()
    if width not in (None, version.encoder.width):
        raise StoreError(
            about,
            expected=f"one that takes inputs of {width} values, as the items that were put have",
            found=f"{version.encoder.width}",
            remedy="Use another store for other data.",
        )
    if last and not log.begins() <= version.sequence <= last:
        raise StoreError(
            about,
            expected=f"one that holds the changes up to one from {log.begins()} to {last}, as the change log has them",
            found=f"up to {version.sequence}: a change log was lost, or an older copy stands in its place",
            remedy="Restore the change log, or promote another version.",
        )


def embedded(version: Version, changes: Sequence[Change]) -> Vectors:
    """(n, latent_dim): the embedding of what each change puts; NaN where it deletes, or where it cannot be embedded."""
    embeddings = np.full((len(changes), version.encoder.latent_dim), np.nan, np.float32)
    puts = [number for number, change in enumerate(changes) if change.input is not None]
    if puts:
        with np.errstate(invalid="ignore", over="ignore"):
            embeddings[puts] = version.embed(stacked((change.input for change in changes), version.encoder.origin))
    return embeddings
