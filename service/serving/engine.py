"""Answer calls from one collection in batches: calls that wait together are encoded and searched together.

No call is delayed for a batch: a call schedules the next batch for the event loop's next free turn, and the batch has
all calls that have arrived by then. The event loop itself answers a small batch, because to hand it to a thread takes
longer than the work. A thread answers a large batch, so that the loop stays free.

The rows that wait and the seconds of a call are limited; beyond, a call fails with BusyError or DeadlineError.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.index.versions.alignment import mapped
from lookalike.index.versions.distinct import thinning_for
from lookalike.index.versions.manifest import CANARY_LIMIT
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.version import Version
from lookalike.service.errors import BusyError, DeadlineError, DisconnectedError
from lookalike.service.observability.metrics import Metrics
from lookalike.service.parsing.decoding import SearchQuery
from lookalike.service.serving.batching import Answer, BatchResult, Call, IsDisconnected, answer_all, never, novelty_of
from lookalike.training.array_types import Floats

__all__ = ["Engine", "QueueLimits", "engine_thread", "use_threads"]

MAX_BATCH = 4_096
"""Rows in one batch; a call with more rows is one batch."""
INLINE_WORK = 1_024
"""The event loop answers batches of up to this many hits, which takes some milliseconds."""
THINNING = 16
"""The work for a hit that must not overlap others, in hits: the payloads of all candidates are read."""
ROW_WORK = 16
"""A row counts as at least this many hits."""
QUIET_TURNS = 2
"""Turns of the event loop between a readable connection and its call."""
CANARY_SECONDS = 1.5
"""Deadline of the canary query, so that readiness has an answer within two seconds."""
CANARY_ROWS = 16


@dataclass(frozen=True)
class QueueLimits:
    """The rows that may wait, and the seconds that a call may take."""

    rows: int = 1 << 14
    seconds: float = 30.0


def engine_thread(name: str = "engine", *, niceness: int = 0) -> ThreadPoolExecutor:
    """A thread for large batches, or for opening versions; FAISS uses one core in it.

    `niceness`: of this thread, below the event loop's; only Linux has it by thread.
    """

    def begin() -> None:
        faiss.omp_set_num_threads(1)
        if niceness and sys.platform == "linux":
            os.nice(niceness)

    return ThreadPoolExecutor(1, name, begin)


class Engine:
    """Answers calls from a collection; create it inside the event loop that calls it.

    Each call raises:
        BusyError: too many rows wait.
        DeadlineError: the call took too long.
        DisconnectedError: the client disconnected before the work began.
    """

    def __init__(
        self,
        collection: Collection,
        pool: ThreadPoolExecutor,
        *,
        queue_limits: QueueLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`pool`: an `engine_thread`; all engines of an event loop share it."""
        self.collection = collection
        self._pool = pool
        self._queue_limits = queue_limits or QueueLimits()
        self._metrics = metrics or Metrics()
        self._waiting: list[Call] = []
        self._working: list[Call] = []
        self._busy = self._is_threaded = False
        self._changes: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._rows = self._gathered = self._quiet = 0
        self._canary: asyncio.Future[bool] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def version(self) -> Version:
        return self.collection.version

    async def embed(self, rows: Floats, is_disconnected: IsDisconnected = never) -> Floats:
        """(n, width) raw float32 -> embeddings."""
        call = Call(rows, encoded=False, until=self._until(), is_disconnected=is_disconnected)
        return (await self._submit(call)).embeddings

    async def search(self, query: SearchQuery, is_disconnected: IsDisconnected = never) -> SearchResult:
        """The `query.limit` nearest items of each row that pass the filter; of ids, the nearest other items.

        Raises UnknownItemError if no item has one of the ids, and QueryError if the version does not support an option.
        """
        rows, version, by_ids = query.rows, self.version, query.ids is not None
        thinning = thinning_for(version.encoder, distinct=query.distinct, exclude=query.exclude, by_ids=by_ids)
        if query.version not in (None, version.number):
            with np.errstate(over="ignore", invalid="ignore"):  # the search reports values that are too large
                rows = mapped(rows, version.maps[query.version], version.metric)
        options = (query.kind != "inputs", query.limit, query.filter, query.ids)
        call = Call(rows, *options, until=self._until(), is_disconnected=is_disconnected, thinning=thinning)
        return (await self._submit(call)).result

    async def change(self, apply: Callable[[], None]) -> None:
        """Change the collection between two batches: later calls see the whole change, and no call sees half of it."""
        if not self._is_threaded:
            apply()
            return
        done: asyncio.Future[None] = self._loop.create_future()
        self._changes.append((apply, done))
        await done

    async def answers_canary(self) -> bool:
        """Whether the version's canary query still gets its stored answer, the same way as every call.

        Concurrent calls share one canary query.
        """
        if self._canary is None or self._canary.done():
            self._canary = asyncio.ensure_future(self._check_canary())
        return await asyncio.shield(self._canary)

    async def _check_canary(self) -> bool:
        """Search with one row, then with several in one batch, for which the encoder may use other kernels."""
        until = self._until(CANARY_SECONDS)
        for count in (1, CANARY_ROWS):
            rows = np.repeat(self.version.canary, count, axis=0)
            try:
                result = (await self._submit(Call(rows, False, CANARY_LIMIT, until=until, canary=True))).result
            except QueryError:  # the embedding is not finite
                return False
            if not self.version.is_canary_answer(result.scores[-1], result.positions[-1]):
                return False
        return True

    def _until(self, most: float = float("inf")) -> float:
        return self._loop.time() + min(most, self._queue_limits.seconds)

    async def _submit(self, call: Call) -> Answer:
        """Wait for a batch. The canary query goes first and is never refused: a busy service is still healthy."""
        if self._waiting and not call.canary and self._rows + len(call.rows) > self._queue_limits.rows:
            self._metrics.rejected("queue_full")
            raise BusyError("request", expected=f"at most {self._queue_limits.rows} waiting rows", found="too many")
        self._waiting.insert(0 if call.canary else len(self._waiting), call)
        self._rows += len(call.rows)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next_batch)
        if self._alarm is None or call.until < self._alarm.when():
            self._set_alarm(call.until)
        return await call.future

    def _next_batch(self) -> None:
        if self._grows():
            self._loop.call_soon(self._next_batch)
            return
        batch = self._working = self._take()
        if not batch:
            self._busy = False
            self._set_alarm(None)  # its timer would keep the version alive
        elif self.version.encoder.is_fast and _is_small(batch) and not self._has_parts(batch):
            self._after(batch, answer_all(self.collection, batch))
        else:
            self._is_threaded = True
            done = self._loop.run_in_executor(self._pool, answer_all, self.collection, batch)
            done.add_done_callback(lambda done: self._after(batch, done.result()))

    def _has_parts(self, batch: list[Call]) -> bool:
        """Whether a row is a part of a row; then held-out rows may be embedded for its novelty."""
        novelty = self.version.part_novelty
        return novelty is not None and any(call.limit and novelty.is_part(call.rows).any() for call in batch)

    def _grows(self) -> bool:
        """Whether calls arrived in one of the last turns of the loop, and the batch has room for more.

        If many clients were answered together, their next calls arrive in the turns that follow. A turn does not block:
        without other calls it takes some microseconds, and a call that was alone before does not wait.
        """
        if len(self._working) + len(self._waiting) <= 2:
            return False
        self._quiet = 0 if self._rows > self._gathered else self._quiet + 1
        grows = 0 < self._rows < INLINE_WORK // ROW_WORK and self._quiet < QUIET_TURNS
        self._gathered = self._rows if grows else 0
        return grows

    def _take(self) -> list[Call]:
        """The longest run of waiting calls whose clients are still connected and whose rows fit one batch."""
        waiting = [call for call in self._waiting if self._is_wanted(call)]
        rows, count = 0, 0
        while count < len(waiting) and (count == 0 or rows + len(waiting[count].rows) <= MAX_BATCH):
            rows += len(waiting[count].rows)
            count += 1
        self._wait_for(waiting[count:])
        return waiting[:count]

    def _wait_for(self, calls: list[Call]) -> None:
        self._waiting, self._rows = calls, sum(len(call.rows) for call in calls)
        self._metrics.queued(len(calls))

    def _is_wanted(self, call: Call) -> bool:
        if not call.future.done() and call.is_disconnected():
            self._metrics.rejected("client_gone")
            expected, found = "a client that waits", "a client that disconnected"
            call.future.set_exception(DisconnectedError("request", expected=expected, found=found))
        return not call.future.done()

    def _after(self, batch: list[Call], result: BatchResult) -> None:
        """Apply the waiting changes, give each call its answer, and schedule the next batch."""
        self._loop.call_soon(self._next_batch)
        self._is_threaded = False
        self._apply()
        for call, answer in zip(batch, result.answers, strict=True):
            if call.future.done():
                continue
            if isinstance(answer, Exception):
                call.future.set_exception(answer)
            else:
                call.future.set_result(answer)
        self._count(batch, result)

    def _apply(self) -> None:
        while self._changes:
            apply, done = self._changes.pop(0)
            try:
                apply()
            except Exception as error:  # only the caller of `change` handles it, if the caller still waits
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(None)

    def _count(self, batch: list[Call], result: BatchResult) -> None:
        """Update the metrics, on the event loop's thread."""
        rows = sum(len(call.rows) for call in batch)
        self._metrics.batched(rows, len(batch), result.encoding, result.searching)
        if result.searching:
            self._metrics.novelty(novelty_of(batch, result.answers), self.version.number)

    def _give_up(self) -> None:
        """Fail all calls whose deadline has passed, at work or waiting, and set the alarm for the next deadline."""
        now, unanswered = self._loop.time(), [c for c in (*self._working, *self._waiting) if not c.future.done()]
        for call in unanswered:
            if call.until <= now:
                self._metrics.rejected("deadline")
                expected = f"an answer in {self._queue_limits.seconds:g} s"
                call.future.set_exception(DeadlineError("request", expected=expected, found="no answer"))
        self._wait_for([call for call in self._waiting if not call.future.done()])
        self._set_alarm(min((call.until for call in unanswered if not call.future.done()), default=None))

    def _set_alarm(self, at: float | None) -> None:
        """One timer for all calls: a timer for each call costs more than forming a batch."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None if at is None else self._loop.call_at(at, self._give_up)


def _is_small(batch: list[Call]) -> bool:
    """Whether the event loop answers the batch; not if it has a filter, which may read every item."""
    hits = sum(len(call.rows) * max(ROW_WORK, call.limit * (THINNING if call.thinning else 1)) for call in batch)
    return hits <= INLINE_WORK and not any(call.filter_ for call in batch)


def use_threads(count: int) -> None:
    """Let torch use `count` threads and FAISS one, so that they do not compete for cores."""
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(1)
