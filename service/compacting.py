"""Folds what has changed into a new version, in a process of its own, once it is a share of the items."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

from index.collection import Collection
from service.logs import lifecycle

__all__ = ["Compactor"]

LEAST_CHANGES = 1_000
"""However few items there are: fewer are searched as fast as none."""
AGAIN_SECONDS = 60.0
"""From one attempt to the next of this process; of several, the first has the store's lock."""


class Compactor:
    """Call it from one event loop. The new version becomes the champion, and so reaches all processes."""

    def __init__(self, store: Path, share: float, keep: int) -> None:
        """
        Args:
            share: of the version's items, how many may be new, replaced or deleted; 0 for never.
            keep: how many versions stay (index.retention).
        """
        self._store = store
        self._share = share
        self._keep = keep
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._since = -AGAIN_SECONDS

    def look(self, collection: Collection) -> None:
        """Begin, where there is enough to do, and it is not being done."""
        items = collection.items
        changed, now = items.changed, time.monotonic()
        enough = max(LEAST_CHANGES, self._share * len(collection.version.items))
        if not self._share or changed < enough or not items.count:
            return
        if (self._task is None or self._task.done()) and now - self._since >= AGAIN_SECONDS:
            self._since = now
            self._task = asyncio.create_task(self._compact())

    async def close(self) -> None:
        """End a process that is at work; it leaves nothing behind."""
        if self._process and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _compact(self) -> None:
        command = (sys.executable, "-m", "index.compact", str(self._store), str(self._keep))
        hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=hidden
        )
        lifecycle("compaction", code=await self._process.wait())
