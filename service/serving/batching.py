"""Calls that wait together, answered together: encoded at once, searched at once, and parted again."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import Filter
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.novelty import encode_with_errors
from lookalike.index.versions.version import SearchResult

__all__ = ["Answer", "BatchResult", "Call", "IsDisconnected", "answer_all", "never", "novelty_of"]

Rows2D = NDArray[np.float32]
Reals = NDArray[np.float64]
IsDisconnected = Callable[[], bool]

_NOTHING = SearchResult(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64), np.empty(0))


@dataclass(frozen=True)
class Answer:
    """Embeddings (n, latent), and what was found for them."""

    embeddings: Rows2D
    found: SearchResult = _NOTHING


def never() -> bool:
    """A client that never disconnects."""
    return False


def _future() -> "asyncio.Future[Answer]":
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, eq=False)
class Call:
    """One call, as it waits.

    Attributes:
        rows: (n, width) raw float32, or (n, latent) where they are encoded.
        limit: hits for each row; 0 for no search.
        ids: n of items to ask with; `rows` says only how many until they are looked up, with the batch.
        own: (n,) where those items stand, once they are.
        until: the event loop's time at which the call is given up.
        is_disconnected: whether the client has disconnected.
        known: is it the version's own question?
    """

    rows: Rows2D
    encoded: bool
    limit: int = 0
    filter_: Filter | None = None
    ids: list[str] | None = None
    own: NDArray[np.int64] | None = None
    until: float = 0.0
    is_disconnected: IsDisconnected = never
    known: bool = False
    future: "asyncio.Future[Answer]" = field(default_factory=_future, repr=False)


@dataclass(frozen=True)
class BatchResult:
    """An answer a call, and the seconds that the batch took."""

    answers: list[Answer | Exception]
    encoding: float = 0.0
    searching: float = 0.0


def answer_all(collection: Collection, batch: list[Call]) -> BatchResult:
    """Where the batch fails, each call is answered alone, so that none pays for another."""
    try:
        return _answer(collection, batch)
    except Exception as error:
        if len(batch) == 1:
            return BatchResult([error])
        each = [answer_all(collection, [call]) for call in batch]
        times = (sum(one.encoding for one in each), sum(one.searching for one in each))
        return BatchResult([answer for one in each for answer in one.answers], *times)


def novelty_of(batch: list[Call], answers: list[Answer | Exception]) -> NDArray[np.float64]:
    """(n,): of the queries that came from outside; what an item or the canary query gets tells nothing of drift."""
    each = zip(batch, answers, strict=True)
    told = [a.found.novelty for call, a in each if isinstance(a, Answer) and call.ids is None and not call.known]
    return np.concatenate(told) if told else np.empty(0)


def _answer(collection: Collection, batch: list[Call]) -> BatchResult:
    began = perf_counter()
    batch = [_looked_up(collection, call) for call in batch]
    alike: dict[Hashable, list[Call]] = {}
    for call in batch:
        alike.setdefault((call.limit, call.filter_, call.encoded, call.ids is None, call.known), []).append(call)
    groups = list(alike.values())
    read = _encode(collection, groups)
    encoded = perf_counter()
    told: dict[Call, Answer] = {}
    for calls, (latent, errors) in zip(groups, read, strict=True):
        told.update(zip(calls, _answer_alike(collection, calls, latent, errors), strict=True))
    searched = any(calls[0].limit for calls in groups)
    return BatchResult([told[call] for call in batch], encoded - began, perf_counter() - encoded if searched else 0.0)


def _looked_up(collection: Collection, call: Call) -> Call:
    """Raises UnknownItemError where no item has one of its ids now."""
    if call.ids is None:
        return call
    own = collection.items.positions(call.ids)
    return replace(call, rows=collection.embeddings.at(own), own=own)


def _answer_alike(collection: Collection, calls: list[Call], latent: Rows2D, errors: Reals | None) -> list[Answer]:
    """For calls that ask alike, with their rows as the encoder gave them, one after the other."""
    first, places = calls[0], _places([call.rows for call in calls])
    embeddings = in_metric(latent, collection.metric)
    if not first.limit:
        return [Answer(embeddings[part]) for part in places]
    own = None if first.own is None else np.concatenate([call.own for call in calls if call.own is not None])
    asked = collection.version if first.known else collection  # what it must find stands in the version
    found = asked.search(embeddings, first.limit, first.filter_, errors=errors, own=own)
    return [
        Answer(
            embeddings[part],
            SearchResult(found.scores[part], found.positions[part], found.novelty[part], collection.applied),
        )
        for part in places
    ]


def _encode(collection: Collection, groups: list[list[Call]]) -> list[tuple[Rows2D, Reals | None]]:
    """Each group's rows as the encoder gives them, and of raw ones that are searched with the reconstruction errors.

    Rows that came encoded are left as they are. Raises QueryError where finite inputs leave float32 on their way
    through the encoder.
    """
    rows = [_joined([call.rows for call in calls]) for calls in groups]
    read: list[tuple[Rows2D, Reals | None]] = [(some, None) for some in rows]
    for searched in (True, False):
        raw = [n for n, (first, *_) in enumerate(groups) if not first.encoded and bool(first.limit) == searched]
        if not raw:
            continue
        together, errors = _joined([rows[n] for n in raw]), None
        if searched:
            latent, errors = encode_with_errors(collection.encoder, together)
        else:
            latent = collection.encoder.encode(together)
        if not np.isfinite(latent).all():
            raise QueryError("inputs", expected="values of the size that the encoder knows", found="too large ones")
        for n, part in zip(raw, _places([rows[n] for n in raw]), strict=True):
            read[n] = latent[part], None if errors is None else errors[part]
    return read


def _places(parts: Sequence[Rows2D]) -> list[slice]:
    """Where each part's rows stand among all, one after the other."""
    return [slice(*pair) for pair in pairwise(accumulate(map(len, parts), initial=0))]


def _joined(parts: Sequence[Rows2D]) -> Rows2D:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
