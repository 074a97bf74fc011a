"""Answer a batch of calls: encode their rows together, search together, and split the results again."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from time import perf_counter

import numpy as np

from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import Filter
from lookalike.index.versions.distinct import Thinning
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.novelty import encode_with_errors
from lookalike.index.versions.searching import SearchResult
from lookalike.training.array_types import Doubles, Floats, Integers

__all__ = ["Answer", "BatchResult", "Call", "IsDisconnected", "answer_all", "never", "novelty_of"]

IsDisconnected = Callable[[], bool]

_NO_RESULT = SearchResult(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64), np.empty(0))


@dataclass(frozen=True)
class Answer:
    """Embeddings (n, latent) and their search result, which is empty without a search."""

    embeddings: Floats
    result: SearchResult = _NO_RESULT


def never() -> bool:
    """A client that never disconnects."""
    return False


def _future() -> "asyncio.Future[Answer]":
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, eq=False)
class Call:
    """One call that waits for a batch.

    Attributes:
        rows: (n, width) raw float32, or (n, latent) if they are encoded; (n, 0) for ids until the batch looks them up.
        limit: hits for each row; 0 means no search.
        ids: the n items that are the queries, or None.
        own: (n,) the positions of these items, after the lookup; no item finds itself.
        until: the event loop's time at which the call's deadline passes.
        is_disconnected: whether the client has disconnected.
        canary: whether it is the canary query of the version.
        thinning: which hits of windows are left out.
    """

    rows: Floats
    encoded: bool
    limit: int = 0
    filter_: Filter | None = None
    ids: list[str] | None = None
    own: Integers | None = None
    until: float = 0.0
    is_disconnected: IsDisconnected = never
    canary: bool = False
    thinning: Thinning | None = None
    future: "asyncio.Future[Answer]" = field(default_factory=_future, repr=False)


@dataclass(frozen=True)
class BatchResult:
    """One answer for each call, and the seconds of the batch."""

    answers: list[Answer | Exception]
    encoding: float = 0.0
    searching: float = 0.0


def answer_all(collection: Collection, batch: list[Call]) -> BatchResult:
    """Answer the calls together; if that fails, answer each alone, so that one wrong call fails no other."""
    try:
        return _answer(collection, batch)
    except Exception as error:
        if len(batch) == 1:
            return BatchResult([error])
        singles = [answer_all(collection, [call]) for call in batch]
        seconds = (sum(single.encoding for single in singles), sum(single.searching for single in singles))
        return BatchResult([answer for single in singles for answer in single.answers], *seconds)


def novelty_of(batch: list[Call], answers: list[Answer | Exception]) -> Doubles:
    """(n,) p-values of the queries from outside; items and the canary query say nothing about drift."""
    pairs = zip(batch, answers, strict=True)
    parts = [a.result.novelty for call, a in pairs if isinstance(a, Answer) and call.ids is None and not call.canary]
    return np.concatenate(parts) if parts else np.empty(0)


def _answer(collection: Collection, batch: list[Call]) -> BatchResult:
    began = perf_counter()
    batch = [_look_up_ids(collection, call) for call in batch]
    by_options: dict[Hashable, list[Call]] = {}
    for call in batch:
        options = (call.limit, call.filter_, call.encoded, call.ids is None, call.canary, call.thinning)
        by_options.setdefault(options, []).append(call)
    groups = list(by_options.values())
    latents = _encode(collection, groups)
    encoded = perf_counter()
    answers: dict[Call, Answer] = {}
    for calls, (latent, errors) in zip(groups, latents, strict=True):
        answers.update(zip(calls, _answer_group(collection, calls, latent, errors), strict=True))
    searching = perf_counter() - encoded if any(calls[0].limit for calls in groups) else 0.0
    return BatchResult([answers[call] for call in batch], encoded - began, searching)


def _look_up_ids(collection: Collection, call: Call) -> Call:
    """The call with the embeddings of its ids. Raises UnknownItemError if no item has one of the ids now."""
    if call.ids is None:
        return call
    own = collection.items.positions(call.ids)
    return replace(call, rows=collection.vectors_at(own), own=own)


def _answer_group(collection: Collection, calls: list[Call], latent: Floats, errors: Doubles | None) -> list[Answer]:
    """Answer calls with the same options; `latent` has their rows one after the other, encoded."""
    first, parts = calls[0], _slices([call.rows for call in calls])
    embeddings = in_metric(latent, collection.metric)
    if not first.limit:
        return [Answer(embeddings[part]) for part in parts]
    own = None if first.own is None else np.concatenate([call.own for call in calls if call.own is not None])
    searched = collection.version if first.canary else collection  # the canary query's known answer is the version's
    may_be_parts = collection.version.part_novelty and not first.encoded and first.ids is None
    rows = _join([call.rows for call in calls]) if may_be_parts else None
    result = searched.searcher.search(
        embeddings, first.limit, first.filter_, errors=errors, rows=rows, own=own, thinning=first.thinning
    )
    scores, positions, novelty, sequence = result.scores, result.positions, result.novelty, collection.applied
    return [Answer(embeddings[p], SearchResult(scores[p], positions[p], novelty[p], sequence)) for p in parts]


def _encode(collection: Collection, groups: list[list[Call]]) -> list[tuple[Floats, Doubles | None]]:
    """Each group's rows, encoded; with reconstruction errors if raw rows are searched with.

    Rows that are encoded already stay unchanged. Raises QueryError if finite inputs overflow float32 in the encoder.
    """
    rows = [_join([call.rows for call in calls]) for calls in groups]
    latents: list[tuple[Floats, Doubles | None]] = [(group, None) for group in rows]
    for searched in (True, False):
        raw = [n for n, (first, *_) in enumerate(groups) if not first.encoded and bool(first.limit) == searched]
        if not raw:
            continue
        together, errors = _join([rows[n] for n in raw]), None
        if searched:
            latent, errors = encode_with_errors(collection.encoder, together)
        else:
            latent = collection.encoder.encode(together)
        if not np.isfinite(latent).all():
            raise QueryError("inputs", expected="values that the encoder can compute with", found="too large values")
        for n, part in zip(raw, _slices([rows[n] for n in raw]), strict=True):
            latents[n] = latent[part], None if errors is None else errors[part]
    return latents


def _slices(parts: Sequence[Floats]) -> list[slice]:
    """The rows of each part among all rows, one part after the other."""
    return [slice(*pair) for pair in pairwise(accumulate(map(len, parts), initial=0))]


def _join(parts: Sequence[Floats]) -> Floats:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
