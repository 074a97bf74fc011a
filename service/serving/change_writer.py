"""The change log from inside the service: an accepted change is in it before it is acknowledged, and found at once.

One thread writes and reads it. Changes that wait together are written in one transaction, because most of the time goes
into waiting for the disk. A collection applies the log's changes in their order, those of its own process and those of
others alike, so all workers have the same items.

Before a change is acknowledged, and before a search can find it, its sequence number is published to the other workers
(service.serving.workers.WorkerBoard). So no worker answers from fewer changes than a client has seen already.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, embedded
from lookalike.index.changes.log import ChangeLog, LogSize
from lookalike.index.errors import LogError
from lookalike.service.serving.engine import Engine

__all__ = ["ChangeWriter"]

TAKEN = 512
"""Changes that are taken up at a time: some milliseconds in which no call is answered."""
INLINE = 32
"""Rows that are encoded on the event loop; of more, in a thread."""
REMEMBERED = 8_192
"""Embeddings that are kept from when a change was checked until it is taken up."""

T = TypeVar("T")
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class _Waiting:
    changes: Sequence[Change]
    written: "asyncio.Future[list[int]]"


class ChangeWriter:
    """Make it inside the event loop that calls it."""

    def __init__(self, store: Path, publish: Callable[[int], None]) -> None:
        """`publish` tells the other workers a sequence number that answers include from now on."""
        self._log = ChangeLog(store)
        self._publish = publish
        self._thread = ThreadPoolExecutor(1, "item-log")
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._writing = False
        self._known: OrderedDict[tuple[int, int], Vectors] = OrderedDict()

    async def append(self, changes: Sequence[Change], embeddings: Vectors | None = None, version: int = 0) -> list[int]:
        """Write changes, all or none, as `ChangeLog.append_each`; they are on disk and published when this returns.

        Args:
            embeddings: (n, latent_dim) of each, as that version has them; None if they delete.

        Returns:
            Each change's sequence number; 0 if it was skipped.

        Raises:
            LogError: they cannot be written, and are not.
        """
        waiting = _Waiting(changes, self._loop.create_future())
        self._waiting.append(waiting)
        if not self._writing:
            self._writing = True
            self._loop.create_task(self._write()).add_done_callback(lambda task: task.exception())
        written = await asyncio.shield(waiting.written)
        if embeddings is not None:
            self._known.update({(version, sequence): row for sequence, row in zip(written, embeddings, strict=True)})
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return written

    async def moved(self) -> bool:
        """Did another process write since this was asked last?

        Raises:
            LogError, ArtifactError: the log cannot be read.
        """
        return await self._in_thread(self._log.moved)

    async def size(self) -> LogSize:
        """How large the log is.

        Raises:
            LogError, ArtifactError: the log cannot be read.
        """
        return await self._in_thread(self._log.size)

    async def holds(self, name: str) -> bool:
        """Is an item of this id the last that the log knows of it?

        Raises:
            LogError, ArtifactError: the log cannot be read.
        """
        change = await self._in_thread(lambda: self._log.find(name))
        return change is not None and not change.is_delete

    async def catch_up(self, engine: Engine) -> int:
        """Have an engine's collection take up all that stands in the log; returns how many changes that was.

        One engine at a time, and one call.

        Raises:
            LogError, ArtifactError: the log cannot be read.
        """
        collection, count = engine.collection, 0
        while changes := await self._in_thread(lambda: self._log.read(collection.applied, TAKEN)):
            embeddings = await self._embedded(collection, changes)
            await engine.change(lambda: self._apply(collection, changes, embeddings))  # noqa: B023
            count += len(changes)
            if len(changes) < TAKEN:
                break
        return count

    def _apply(self, collection: Collection, changes: list[Change], embeddings: Vectors) -> None:
        collection.apply(changes, embeddings)
        self._publish(collection.applied)  # the worker that wrote them may not have done so yet

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._in_thread(self._log.close)
        self._thread.shutdown()

    async def _embedded(self, collection: Collection, changes: list[Change]) -> Vectors:
        known = [self._known.pop((collection.number, change.sequence), None) for change in changes]
        embeddings = np.full((len(changes), collection.encoder.latent_dim), np.nan, np.float32)
        new = [place for place, row in enumerate(known) if row is None and not changes[place].is_delete]
        for place, row in enumerate(known):
            if row is not None:
                embeddings[place] = row
        if new:
            some = [changes[place] for place in new]
            work: Callable[[], Vectors] = lambda: embedded(collection.version, some)  # noqa: E731
            embeddings[new] = work() if len(new) <= INLINE else await asyncio.to_thread(work)
        return embeddings

    async def _write(self) -> None:
        """Until nothing waits."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                try:
                    written = await self._in_thread(
                        lambda: self._log.append_each([change for one in group for change in one.changes])  # noqa: B023
                    )
                except LogError:  # a full disk may have room for one
                    await self._write_each(group)
                except Exception as error:
                    _fail(group, error)
                else:
                    self._acknowledge(group, written)
        finally:
            self._writing = False

    async def _write_each(self, group: list[_Waiting]) -> None:
        for one in group:
            try:
                written = await self._in_thread(lambda: self._log.append_each(one.changes))  # noqa: B023
            except Exception as error:
                _fail([one], error)
            else:
                self._acknowledge([one], written)

    def _acknowledge(self, group: list[_Waiting], written: list[int]) -> None:
        """Give each call the sequence numbers of its changes."""
        self._publish(max(written, default=0))
        start = 0
        for one in group:
            stop = start + len(one.changes)
            if not one.written.done():
                one.written.set_result(written[start:stop])
            start = stop

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._thread, work)


def _fail(group: list[_Waiting], error: Exception) -> None:
    for one in group:
        if not one.written.done():
            one.written.set_exception(error)
