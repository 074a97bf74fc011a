"""A version and the changes since, searched as one: as if a version had been built from the current items."""

from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache, partial

import numpy as np

from lookalike.index.ann.embeddings import exact_scores
from lookalike.index.ann.scores import best_first, drop_self
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import comparable, nearest
from lookalike.index.changes.change import Change
from lookalike.index.changes.delta import Delta
from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import StoreError
from lookalike.index.items.filters import Filter
from lookalike.index.limits import MAX_FOUND
from lookalike.index.versions.novelty import NEIGHBORS, mean_distances
from lookalike.index.versions.searching import CACHED_FILTERS, Find, Searcher, among
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Booleans, Floats, Positions
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.choices import DeviceName

__all__ = ["BaseAndDelta", "Collection", "embedded", "open_collection"]

SAMPLED = 1 << 16  # The size of the sample of `index.versions.novelty.item_distances`


class Collection:
    """An open version and the changes since, applied in the order of the log; for one thread at a time.

    The item at a position never changes, so `items` can be read at any time, also for the hits of an earlier search.
    """

    def __init__(self, version: Version) -> None:
        self.version = version
        self.items = Delta(version.items, version.embeddings.vectors, version.base.local_scale)
        self.applied = version.sequence
        """The last change of the log that was applied."""
        space = BaseAndDelta(version, self.items)
        self._searcher = Searcher(space, version.encoder, version.novelty, version.of_parts)

    @property
    def number(self) -> int:
        return self.version.number

    @property
    def encoder(self) -> RowEncoder:
        return self.version.encoder

    @property
    def metric(self) -> Metric:
        return self.version.metric

    @property
    def searcher(self) -> Searcher:
        """Searches the current items."""
        return self._searcher if self.is_changed else self.version.searcher

    @property
    def is_changed(self) -> bool:
        """Whether the items differ from those of the version."""
        return self.items.new > 0 or self.items.gone_of_base > 0

    def vectors_at(self, positions: Positions) -> Floats:
        """(n, dim): a copy of the embeddings at positions, (n,), also of deleted items."""
        return self.items.vectors_at(positions)

    def apply(self, changes: Sequence[Change], embeddings: Floats) -> None:
        """Apply changes in the order of the log.

        `embeddings`, (n, latent_dim), are those of the input of each put; the rows of deletions are ignored. An item
        whose embedding is not finite and within MAX_VALUE stays in the log, and no search finds it.
        """
        puts = np.array([not change.is_delete for change in changes], np.bool_) & comparable(embeddings)
        ids = [change.id for change, put in zip(changes, puts, strict=True) if put]
        local_scale = np.ones(len(changes), np.float32)
        local_scale[puts] = self._local_scale(ids, embeddings[puts])
        for change, put, embedding, scale in zip(changes, puts, embeddings, local_scale, strict=True):
            if put:
                self.items.put(change.id, embedding, float(scale), change.payload or "{}")
            else:
                self.items.drop(change.id)
            self.applied = max(self.applied, change.sequence)

    def _local_scale(self, ids: list[str], embeddings: Floats) -> Floats:
        """(n,): the mean distance of each embedding to its NEIGHBORS nearest items of the version.

        The item that a change replaces is left out. `index.versions.novelty.item_distances` uses a sample of SAMPLED
        items. The k-th nearest item of a sample that holds 1/step of all items is, on average, the (step k)-th nearest
        of all, so that rank is used here.
        """
        index = self.version.index
        if len(index) < 2 or not ids:
            return np.ones(len(ids), np.float32)
        step = max(1.0, len(index) / SAMPLED)
        ranks = np.ceil(step * np.arange(1, NEIGHBORS + 1)).astype(np.int64)
        own = np.array([-1 if place is None else place for place in map(self.version.items.find, ids)], np.int64)
        most = min(int(ranks[-1]), MAX_FOUND - 1)
        _, found = drop_self(*index.search(embeddings, most + 1), own, most)
        scores = best_first(self.version.embeddings.scores(embeddings, found), self.metric)
        scores = scores[:, ranks[ranks <= found.shape[1]] - 1]
        return mean_distances(scores, self.metric).astype(np.float32)


class BaseAndDelta:
    """The items of a version that were not deleted or replaced, and the new items: a `SearchSpace`."""

    def __init__(self, version: Version, delta: Delta) -> None:
        self._version = version
        self._delta = delta
        self.vectors_at, self.local_scale_at = delta.vectors_at, delta.local_scale_at
        self.id_at, self.positions, self.payload_json = delta.id_at, delta.positions, delta.payload_json
        # The cached function does not refer to `self`: a cycle would keep the arrays until the next garbage collection.
        self._filtered = lru_cache(CACHED_FILTERS)(partial(_filtered, version, delta))

    @property
    def metric(self) -> Metric:
        return self._version.metric

    def finder(self, filter_: Filter | None) -> Find:
        """Return the function that finds k nearest of the version and k nearest new items, in no order."""
        base, new = self._in_base(filter_), self._in_delta(filter_)
        return lambda queries, k: np.concatenate([base(queries, k), new(queries, k)], axis=1)

    def comparer(self, filter_: Filter | None) -> Find:
        """Return the function that compares all items of the version, and all new items, that pass a filter."""
        version, new = self._version, self._in_delta(filter_)
        present = ~self._delta.gone[: len(version.index)]
        if filter_ is not None:
            present &= self._filtered(filter_)[0]
        places = np.flatnonzero(present)
        compared = version.embeddings.nearest
        return lambda queries, k: np.concatenate([compared(queries, k, places)[1], new(queries, k)], axis=1)

    def scores(self, queries: Floats, positions: Positions) -> Floats:
        return exact_scores(self._delta.vectors_at, queries, positions, self.metric)

    def _in_base(self, filter_: Filter | None) -> Find:
        version = self._version
        gone = self._delta.gone[: len(version.index)]
        allowed, find = (None, version.base.finder(None)) if filter_ is None else self._filtered(filter_)
        if not self._delta.gone_of_base:
            return find

        def compared(queries: Floats, k: int) -> Positions:
            present = ~gone if allowed is None else allowed & ~gone
            return version.embeddings.nearest(queries, k, np.flatnonzero(present))[1]

        return lambda queries, k: _present(gone, find, compared, queries, k, 2 * k + 8)  # some may be deleted

    def _in_delta(self, filter_: Filter | None) -> Find:
        places, vectors, first = *self._delta.present(), len(self._version.index)
        if filter_ is not None:
            some = self._delta.allowed(filter_)[1][places]
            places, vectors = places[some], vectors[some]

        def find(queries: Floats, k: int) -> Positions:
            if not len(places):
                return np.empty((len(queries), 0), np.int64)
            return first + places[nearest(queries, vectors, k, self.metric)[1]]

        return find


def _filtered(version: Version, delta: Delta, filter_: Filter) -> tuple[Booleans, Find]:
    """Return which of the version's items pass a filter, (n,), and the function that finds the nearest of them."""
    allowed = delta.allowed(filter_)[0]
    return allowed, among(version.index, version.embeddings, allowed)


def _present(gone: Booleans, find: Find, compared: Find, queries: Floats, k: int, wanted: int) -> Positions:
    """(n, at most k): the nearest items that are not deleted.

    If too many of the `wanted` candidates are deleted, more candidates are searched. If `find` has no more (the lists
    that it visits may be exhausted before all items are), all items are compared.
    """
    wanted = min(wanted, MAX_FOUND)
    found = find(queries, wanted)
    present = np.where((found >= 0) & ~gone.take(found, mode="clip"), found, -1)
    present = np.take_along_axis(present, np.argsort(present < 0, axis=1, kind="stable"), axis=1)[:, :k]
    if present.shape[1] == k and (present[:, -1] >= 0).all():  # the usual case
        return present
    short, exhausted = (present >= 0).sum(axis=1) < k, (found[:, -1:] < 0).any(axis=1)
    full = short & ~exhausted & (found.shape[1] == wanted)  # if fewer were found, they are all items

    def farther(queries: Floats, k: int) -> Positions:
        return _present(gone, find, compared, queries, k, 4 * wanted)

    for rows, search in ((short & exhausted, compared), (full, compared if wanted == MAX_FOUND else farther)):
        if rows.any():
            more = search(queries[rows], k)
            present[rows] = -1
            present[rows, : more.shape[1]] = more
    return present


def open_collection(store: Store, number: int, device: DeviceName = "cpu", upto: int | None = None) -> Collection:
    """Verify and open a version, and apply the log to it, up to the change `upto`; None means all changes.

    Raises StoreError if there is no such version, or the log's inputs do not fit its encoder, or the log lacks changes
    after the version's last. Raises ArtifactError if the version or the log is damaged.
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
        expected = f"a version for inputs of {width} values, like the items in the change log"
        raise StoreError(about, expected, f"{version.encoder.width}", remedy="Use another store for other data.")
    if last and not log.begins() <= version.sequence <= last:
        expected = f"a version whose last change is from {log.begins()} to {last}, like the change log"
        found = f"{version.sequence}: a change log was lost, or replaced by an older copy"
        raise StoreError(about, expected, found, remedy="Restore the change log, or promote another version.")


def embedded(version: Version, changes: Sequence[Change]) -> Floats:
    """(n, latent_dim): the embedding of each change's input; NaN for a deletion or an input that cannot be embedded."""
    embeddings = np.full((len(changes), version.encoder.latent_dim), np.nan, np.float32)
    puts = [number for number, change in enumerate(changes) if change.input is not None]
    if puts:
        with np.errstate(invalid="ignore", over="ignore"):
            embeddings[puts] = version.embed(stacked((change.input for change in changes), version.encoder.origin))
    return embeddings
