"""Write changes to the change log, and apply the log's changes to the serving collection.

A change is in the log before it is acknowledged, and the next search finds it. One thread writes and reads the log.
Changes that wait together are written in one transaction, because most of the time is spent waiting for the disk. A
collection applies the changes of all processes in the log's order, so all workers have the same items.

Before a change is acknowledged, and before a search can find it, its sequence number is published to the other workers
(service.serving.workers.WorkerBoard). So no worker answers from fewer changes than a client has already seen.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, embedded
from lookalike.index.changes.log import ChangeLog, LogSize
from lookalike.index.errors import LogError
from lookalike.service.serving.engine import Engine
from lookalike.training.array_types import Floats

__all__ = ["ChangeWriter"]

BATCH = 512
"""Changes that are applied together, which takes some milliseconds in which no call is answered."""
INLINE = 32
"""The event loop encodes up to this many rows; a thread encodes more."""
CACHED = 8_192
"""Embeddings that are kept from the check of a change until it is applied."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Waiting:
    changes: Sequence[Change]
    written: "asyncio.Future[list[int]]"


class ChangeWriter:
    """Writes and applies changes; create it inside the event loop that calls it."""

    def __init__(self, store: Path, publish: Callable[[int], None]) -> None:
        """`publish` reports to the other workers a sequence number that all answers must include from now on."""
        self._log = ChangeLog(store)
        self._publish = publish
        self._thread = ThreadPoolExecutor(1, "item-log")
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._writing = False
        self._cache: OrderedDict[tuple[int, int], Floats] = OrderedDict()

    async def append(self, changes: Sequence[Change], embeddings: Floats | None = None, version: int = 0) -> list[int]:
        """Write changes, all or none, by `ChangeLog.append_each`; return when they are on disk and published.

        `embeddings`: (n, latent_dim) of the changes, by that version; None for deletions.

        Returns:
            Each change's sequence number; 0 if it was skipped.

        Raises LogError if the log cannot be written; nothing is written.
        """
        waiting = _Waiting(changes, self._loop.create_future())
        self._waiting.append(waiting)
        if not self._writing:
            self._writing = True
            self._loop.create_task(self._write()).add_done_callback(lambda task: task.exception())
        written = await asyncio.shield(waiting.written)
        if embeddings is not None:
            self._cache.update({(version, sequence): row for sequence, row in zip(written, embeddings, strict=True)})
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return written

    async def has_news(self) -> bool:
        """Whether another process has written since the last call.

        Raises LogError or ArtifactError if the log cannot be read.
        """
        return await self._in_thread(self._log.moved)

    async def size(self) -> LogSize:
        """The size of the log. Raises LogError or ArtifactError if the log cannot be read."""
        return await self._in_thread(self._log.size)

    async def last_change(self, name: str) -> Change | None:
        """The log's last change of this id. Raises LogError or ArtifactError if the log cannot be read."""
        return await self._in_thread(partial(self._log.find, name))

    async def has_item(self, name: str) -> bool:
        """Whether the log's last change of this id is not a deletion. Raises as `last_change` does."""
        change = await self.last_change(name)
        return change is not None and not change.is_delete

    async def preview(self, name: str) -> bytes | None:
        """The preview of the log's last change of this id.

        Raises LogError or ArtifactError if the log cannot be read.
        """
        change = await self._in_thread(partial(self._log.find, name))
        return change.preview if change else None

    async def catch_up(self, engine: Engine) -> int:
        """Apply all new changes of the log to an engine's collection; return their number.

        Only one call at a time.

        Raises LogError or ArtifactError if the log cannot be read.
        """
        collection, count = engine.collection, 0
        while changes := await self._in_thread(lambda: self._log.read(collection.applied, BATCH)):
            embeddings = await self._embedded(collection, changes)
            await engine.change(lambda: self._apply(collection, changes, embeddings))  # noqa: B023
            count += len(changes)
            if len(changes) < BATCH:
                break
        return count

    def _apply(self, collection: Collection, changes: list[Change], embeddings: Floats) -> None:
        collection.apply(changes, embeddings)
        self._publish(collection.applied)  # the worker that wrote the changes may not have published them yet

    async def close(self) -> None:
        """Wait until the waiting changes are written."""
        await self._in_thread(self._log.close)
        self._thread.shutdown()

    async def _embedded(self, collection: Collection, changes: list[Change]) -> Floats:
        cached = [self._cache.pop((collection.number, change.sequence), None) for change in changes]
        embeddings = np.full((len(changes), collection.encoder.latent_dim), np.nan, np.float32)
        new = [index for index, row in enumerate(cached) if row is None and not changes[index].is_delete]
        for index, row in enumerate(cached):
            if row is not None:
                embeddings[index] = row
        if new:
            work = partial(embedded, collection.version, [changes[index] for index in new])
            embeddings[new] = work() if len(new) <= INLINE else await asyncio.to_thread(work)
        return embeddings

    async def _write(self) -> None:
        """Write the waiting changes until none waits."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                try:
                    changes = [change for waiting in group for change in waiting.changes]
                    written = await self._in_thread(partial(self._log.append_each, changes))
                except LogError:  # a full disk may have room for a part of them
                    await self._write_each(group)
                except Exception as error:
                    _fail(group, error)
                else:
                    self._acknowledge(group, written)
        finally:
            self._writing = False

    async def _write_each(self, group: list[_Waiting]) -> None:
        for waiting in group:
            try:
                written = await self._in_thread(partial(self._log.append_each, waiting.changes))
            except Exception as error:
                _fail([waiting], error)
            else:
                self._acknowledge([waiting], written)

    def _acknowledge(self, group: list[_Waiting], written: list[int]) -> None:
        """Give each call the sequence numbers of its changes."""
        self._publish(max(written, default=0))
        start = 0
        for waiting in group:
            stop = start + len(waiting.changes)
            if not waiting.written.done():
                waiting.written.set_result(written[start:stop])
            start = stop

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._thread, work)


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.written.done():
            waiting.written.set_exception(error)
