"""One collection at work: calls that wait together are encoded together and searched together.

Nothing is delayed: a call schedules the next batch for as soon as the event loop is free, and what has
arrived by then is in it. A small batch is answered on the loop itself, where a thread's hand-over would
cost more than the work; a large one in a thread, so that the loop stays free.

What waits is bounded in rows, and each call in seconds: beyond, it is refused, or given up.
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
from numpy.typing import NDArray

from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import Filter
from lookalike.index.versions.version import CANARY_LIMIT, SearchResult, Version
from lookalike.service.errors import BusyError, DeadlineError, DisconnectedError
from lookalike.service.observability.metrics import Metrics
from lookalike.service.serving.batching import Answer, BatchResult, Call, IsDisconnected, answer_all, never, novelty_of

__all__ = ["Engine", "QueueLimits", "engine_thread", "use_threads"]

MAX_BATCH = 4_096
"""Rows in one batch; a call with more is a batch of its own."""
INLINE_WORK = 1_024
"""Up to this many hits a batch is answered on the event loop, which takes some milliseconds."""
ROW_WORK = 16
"""A row costs as much as this many hits, however few it asks for."""
QUIET_TURNS = 2
"""A connection that becomes readable is a call two turns of the loop later."""
KNOWN_SECONDS = 1.5
"""Whoever asks whether it is ready has an answer within two seconds."""

KNOWN_BATCH = 16
Rows2D = NDArray[np.float32]


@dataclass(frozen=True)
class QueueLimits:
    """How many rows may wait, and how many seconds a call may take."""

    rows: int = 1 << 14
    seconds: float = 30.0


def engine_thread(name: str = "engine", *, niceness: int = 0) -> ThreadPoolExecutor:
    """A thread beside the event loop, for large batches or to open versions; FAISS has one core in it, too.

    Args:
        niceness: by how much it gives way to the event loop; on Linux each thread has its own.
    """

    def begin() -> None:
        faiss.omp_set_num_threads(1)
        if niceness and sys.platform == "linux":
            os.nice(niceness)

    return ThreadPoolExecutor(1, name, begin)


class Engine:
    """Answers calls from a collection; make it inside the event loop that calls it.

    Each call raises:
        BusyError: as much waits as may.
        DeadlineError: it took too long.
        DisconnectedError: the client was gone before the work was begun.
    """

    def __init__(
        self,
        collection: Collection,
        pool: ThreadPoolExecutor,
        *,
        queue_limits: QueueLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`pool`: an `engine_thread`, one for all engines of an event loop."""
        self.collection = collection
        self._pool = pool
        self._queue_limits = queue_limits or QueueLimits()
        self._metrics = metrics or Metrics()
        self._waiting: list[Call] = []
        self._working: list[Call] = []
        self._busy = self._is_threaded = False
        self._changes: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._rows = self._gathered = self._quiet = 0
        self._asking: asyncio.Future[bool] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def version(self) -> Version:
        return self.collection.version

    async def embed(self, rows: Rows2D, is_disconnected: IsDisconnected = never) -> Rows2D:
        """(n, width) raw float32 -> embeddings."""
        call = Call(rows, encoded=False, until=self._until(), is_disconnected=is_disconnected)
        return (await self._submit(call)).embeddings

    async def search(
        self,
        rows: Rows2D,
        limit: int,
        *,
        encoded: bool,
        filter_: Filter | None = None,
        is_disconnected: IsDisconnected = never,
    ) -> SearchResult:
        """(n, width) raw rows, or (n, latent) embeddings -> the `limit` nearest of each that pass the filter."""
        call = Call(rows, encoded, limit, filter_, until=self._until(), is_disconnected=is_disconnected)
        return (await self._submit(call)).found

    async def search_ids(
        self, ids: list[str], limit: int, filter_: Filter | None = None, is_disconnected: IsDisconnected = never
    ) -> SearchResult:
        """The `limit` nearest other items of each item.

        Raises:
            UnknownItemError: no item has one of the ids.
        """
        rows = np.empty((len(ids), 0), np.float32)  # looked up with the batch, when nothing changes
        call = Call(rows, True, limit, filter_, ids, until=self._until(), is_disconnected=is_disconnected)
        return (await self._submit(call)).found

    async def change(self, apply: Callable[[], None]) -> None:
        """Change the collection between two batches; calls to come see it, and none sees half of it."""
        if not self._is_threaded:
            apply()
            return
        done: asyncio.Future[None] = self._loop.create_future()
        self._changes.append((apply, done))
        await done

    async def answers_canary(self) -> bool:
        """Does the version's canary query still get its stored answer, on the way that all calls take?

        Whoever asks while it is asked has the same answer.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        """Once, and several times in one batch, which the encoder may answer by another copy of its weights."""
        until = self._until(KNOWN_SECONDS)
        for count in (1, KNOWN_BATCH):
            rows = np.repeat(self.version.canary, count, axis=0)
            try:
                found = (await self._submit(Call(rows, False, CANARY_LIMIT, until=until, known=True))).found
            except QueryError:  # the embedding is no longer a number
                return False
            if not self.version.is_canary_answer(found.scores[-1], found.positions[-1]):
                return False
        return True

    def _until(self, most: float = float("inf")) -> float:
        return self._loop.time() + min(most, self._queue_limits.seconds)

    async def _submit(self, call: Call) -> Answer:
        """The canary query goes first, and is always taken: being asked much is not being ill."""
        if self._waiting and not call.known and self._rows + len(call.rows) > self._queue_limits.rows:
            self._metrics.rejected("queue_full")
            raise BusyError("request", expected=f"at most {self._queue_limits.rows} rows to wait", found="more")
        self._waiting.insert(0 if call.known else len(self._waiting), call)
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
            self._set_alarm(None)  # it would keep the version
        elif _is_small(batch):
            self._after(batch, answer_all(self.collection, batch))
        else:
            self._is_threaded = True
            done = self._loop.run_in_executor(self._pool, answer_all, self.collection, batch)
            done.add_done_callback(lambda outcome: self._after(batch, outcome.result()))

    def _grows(self) -> bool:
        """Did calls arrive in one of the last turns of the loop, and is there room for more?

        Where many clients wait for each other's answers, the next calls of those that were answered together come in
        the turns that follow. A turn waits for nothing: where nobody else calls it takes some microseconds, and whoever
        was alone before is not kept.
        """
        if len(self._working) + len(self._waiting) <= 2:
            return False
        self._quiet = 0 if self._rows > self._gathered else self._quiet + 1
        grows = 0 < self._rows < INLINE_WORK // ROW_WORK and self._quiet < QUIET_TURNS
        self._gathered = self._rows if grows else 0
        return grows

    def _take(self) -> list[Call]:
        """The longest run of waiting calls whose clients are still there and whose rows fit one batch."""
        waiting = [call for call in self._waiting if self._is_there(call)]
        rows, count = 0, 0
        while count < len(waiting) and (count == 0 or rows + len(waiting[count].rows) <= MAX_BATCH):
            rows += len(waiting[count].rows)
            count += 1
        self._wait_for(waiting[count:])
        return waiting[:count]

    def _wait_for(self, calls: list[Call]) -> None:
        self._waiting, self._rows = calls, sum(len(call.rows) for call in calls)
        self._metrics.queued(len(calls))

    def _is_there(self, call: Call) -> bool:
        if not call.future.done() and call.is_disconnected():
            self._metrics.rejected("client_gone")
            call.future.set_exception(
                DisconnectedError("request", expected="a client that waits", found="one that left")
            )
        return not call.future.done()

    def _after(self, batch: list[Call], outcome: BatchResult) -> None:
        """Hand each call its answer, change what is to be changed, and go on."""
        self._loop.call_soon(self._next_batch)
        self._is_threaded = False
        self._apply()
        for call, answer in zip(batch, outcome.answers, strict=True):
            if call.future.done():
                continue
            if isinstance(answer, Exception):
                call.future.set_exception(answer)
            else:
                call.future.set_result(answer)
        self._count(batch, outcome)

    def _apply(self) -> None:
        while self._changes:
            apply, done = self._changes.pop(0)
            try:
                apply()
            except Exception as error:  # it is for whoever waits for it, if anyone still does
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(None)

    def _count(self, batch: list[Call], outcome: BatchResult) -> None:
        """On the event loop, where there is one thread."""
        self._metrics.batched(sum(len(call.rows) for call in batch), len(batch))
        self._metrics.encoded(outcome.encoding)
        if outcome.searching:
            self._metrics.searched(outcome.searching)
            self._metrics.novelty(novelty_of(batch, outcome.answers), self.version.number)

    def _give_up(self) -> None:
        """Answer all that took too long, at work or waiting, and be back when the next one has."""
        now, unanswered = self._loop.time(), [c for c in (*self._working, *self._waiting) if not c.future.done()]
        for call in unanswered:
            if call.until <= now:
                self._metrics.rejected("deadline")
                seconds = f"{self._queue_limits.seconds:g} s"
                call.future.set_exception(DeadlineError("request", expected=f"an answer in {seconds}", found="none"))
        self._wait_for([call for call in self._waiting if not call.future.done()])
        self._set_alarm(min((call.until for call in unanswered if not call.future.done()), default=None))

    def _set_alarm(self, at: float | None) -> None:
        """One for all calls: a timer for each costs more than forming a batch."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None if at is None else self._loop.call_at(at, self._give_up)


def _is_small(batch: list[Call]) -> bool:
    """A filter may look at every item."""
    hits = sum(len(call.rows) * max(ROW_WORK, call.limit) for call in batch)
    return hits <= INLINE_WORK and not any(call.filter_ for call in batch)


def use_threads(count: int) -> None:
    """Torch has so many for a batch, and FAISS one, so that the two never fight for the same cores."""
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(1)
