"""One version at work: calls that wait together are encoded together and searched together.

Nothing is delayed: a call schedules the next batch for as soon as the event loop is free, and what has
arrived by then is in it. A small batch is answered on the loop itself, where a thread's hand-over would
cost more than the work; a large one in a thread, so that the loop stays free.
"""

import asyncio
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from index.embed import in_metric
from index.errors import QueryError
from index.filters import Filter
from index.novelty import reconstruction_errors
from index.version import Found, Version

__all__ = ["Engine"]

MAX_BATCH = 4_096
"""Rows in one batch; a call with more is a batch of its own."""
INLINE_WORK = 1_024
"""Up to this many hits a batch is answered on the event loop, which takes some milliseconds."""
ROW_WORK = 16
"""A row costs as much as this many hits, however few it asks for."""

Rows2D = NDArray[np.float32]


_NOTHING = Found(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64), np.empty(0))


@dataclass(frozen=True)
class _Answer:
    """Embeddings (n, latent), and what was found for them."""

    embeddings: Rows2D
    found: Found = _NOTHING


def _future() -> "asyncio.Future[_Answer]":
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class _Call:
    rows: Rows2D
    encoded: bool
    limit: int = 0  # 0: no search
    given: Filter | None = None
    own: NDArray[np.int64] | None = None
    future: "asyncio.Future[_Answer]" = field(default_factory=_future, repr=False)


class Engine:
    """Answers calls from `version`; make it inside the event loop that calls it."""

    def __init__(self, version: Version, threads: int) -> None:
        self.version = version
        self._waiting: list[_Call] = []
        self._busy = False
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "engine", lambda: faiss.omp_set_num_threads(1))
        torch.set_num_threads(threads)
        faiss.omp_set_num_threads(1)

    async def embed(self, rows: Rows2D) -> Rows2D:
        """(n, width) raw float32 -> embeddings."""
        return (await self._submit(_Call(rows, encoded=False))).embeddings

    async def search(self, rows: Rows2D, limit: int, *, encoded: bool, given: Filter | None = None) -> Found:
        """(n, width) raw rows, or (n, latent) embeddings -> the `limit` nearest of each that pass the filter."""
        return (await self._submit(_Call(rows, encoded, limit, given))).found

    async def search_ids(self, ids: list[str], limit: int, given: Filter | None = None) -> Found:
        """The `limit` nearest other items of each item.

        Raises:
            UnknownItemError: no item has one of the ids.
        """
        own = self.version.items.positions(ids)
        return (await self._submit(_Call(self.version.embeddings.at(own), True, limit, given, own))).found

    def close(self) -> None:
        self._thread.shutdown()

    async def _submit(self, call: _Call) -> _Answer:
        self._waiting.append(call)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next_batch)
        return await call.future

    def _next_batch(self) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
        elif _is_small(batch):
            _settle(batch, _attempt(self.version, batch))
            self._loop.call_soon(self._next_batch)
        else:
            done = self._loop.run_in_executor(self._thread, _attempt, self.version, batch)
            done.add_done_callback(lambda outcome: self._after_thread(batch, outcome.result()))

    def _take(self) -> list[_Call]:
        """The longest run of waiting calls whose clients are still there and whose rows fit one batch."""
        waiting = [call for call in self._waiting if not call.future.cancelled()]
        rows, count = 0, 0
        while count < len(waiting) and (count == 0 or rows + len(waiting[count].rows) <= MAX_BATCH):
            rows += len(waiting[count].rows)
            count += 1
        self._waiting = waiting[count:]
        return waiting[:count]

    def _after_thread(self, batch: list[_Call], outcomes: list[_Answer | Exception]) -> None:
        _settle(batch, outcomes)
        self._next_batch()


def _is_small(batch: list[_Call]) -> bool:
    """A filter may look at every item."""
    hits = sum(len(call.rows) * max(ROW_WORK, call.limit) for call in batch)
    return hits <= INLINE_WORK and not any(call.given for call in batch)


def _attempt(version: Version, batch: list[_Call]) -> list[_Answer | Exception]:
    """An outcome a call. Where the batch fails, each call is answered alone, so that none pays for another."""
    try:
        return [*_answer(version, batch)]
    except Exception as error:
        return [error] if len(batch) == 1 else [outcome for call in batch for outcome in _attempt(version, [call])]


def _answer(version: Version, batch: list[_Call]) -> list[_Answer]:
    """Encode all rows at once, then search once for all calls that ask alike."""
    latents = _encode(version, batch)
    answers = [_Answer(in_metric(latent, version.metric)) for latent in latents]
    alike: dict[Hashable, list[int]] = {}
    for number, call in enumerate(batch):
        if call.limit:
            alike.setdefault((call.limit, call.given, call.encoded, call.own is None), []).append(number)
    for some in alike.values():
        calls = [batch[number] for number in some]
        each = [(latents[number], answers[number].embeddings) for number in some]
        found = _search(version, calls, each)
        for number, part in zip(some, found, strict=True):
            answers[number] = _Answer(answers[number].embeddings, part)
    return answers


def _search(version: Version, calls: list[_Call], encoded: list[tuple[Rows2D, Rows2D]]) -> list[Found]:
    """For calls that ask alike, each with its embeddings as the encoder gave them, and in the metric."""
    rows, first = _joined([call.rows for call in calls]), calls[0]
    latent, embeddings = (_joined(list(parts)) for parts in zip(*encoded, strict=True))
    errors = None if first.encoded else reconstruction_errors(version.encoder, rows, latent)
    own = None if first.own is None else np.concatenate([call.own for call in calls if call.own is not None])
    found = version.search(embeddings, first.limit, first.given, errors=errors, own=own)
    ends = np.cumsum([len(call.rows) for call in calls])[:-1]
    parts = (np.split(array, ends) for array in (found.scores, found.positions, found.novelty))
    return [Found(*part) for part in zip(*parts, strict=True)]


def _encode(version: Version, batch: list[_Call]) -> list[Rows2D]:
    """Each call's embeddings as the encoder gives them; those that came encoded are left as they are."""
    raw = [call.rows for call in batch if not call.encoded]
    parts = iter(_latent(version, raw) if raw else [])
    return [call.rows if call.encoded else next(parts) for call in batch]


def _latent(version: Version, raw: list[Rows2D]) -> list[Rows2D]:
    """Raises QueryError where finite inputs leave float32 on their way through the encoder."""
    with np.errstate(invalid="ignore"):
        latent = version.encoder.encode(_joined(raw))
    if not np.isfinite(latent).all():
        raise QueryError("inputs", expected="values of the size that the encoder knows", found="too large ones")
    return np.split(latent, np.cumsum([len(rows) for rows in raw])[:-1])


def _joined(parts: list[Rows2D]) -> Rows2D:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _settle(batch: list[_Call], outcomes: list[_Answer | Exception]) -> None:
    for call, outcome in zip(batch, outcomes, strict=True):
        if call.future.done():
            continue
        if isinstance(outcome, Exception):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)
