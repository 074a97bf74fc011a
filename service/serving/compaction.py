"""Folds what has changed into a new version, in a process of its own, once it is a share of the items."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from time import monotonic

from lookalike.index.changes.collection import Collection
from lookalike.index.changes.compact import BUSY, REFUSED
from lookalike.index.versions.store import Store
from lookalike.service.observability.logs import lifecycle
from lookalike.training.errors import ArtifactError

__all__ = ["Compactor"]

LEAST_CHANGES = 1_000
"""However few items there are: fewer are searched as fast as none."""
AGAIN_SECONDS = 60.0
"""From the end of one attempt to the next of this process; of several, the first has the store's lock."""
LONGEST_SECONDS = 3_600.0
"""Each attempt that fails doubles the time to the next, up to this."""
LONGEST = 300
"""Characters of what a process said at last, as the log has them."""


class Compactor:
    """Call it from one event loop. The new version becomes the champion, and so reaches all processes."""

    def __init__(self, store: Path, share: float, keep: int) -> None:
        """
        Args:
            share: of the version's items, how many may be new, replaced or deleted; 0 for never.
            keep: how many versions stay (index.changes.retention).
        """
        self._store = store
        self._share = share
        self._keep = keep
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._wait = AGAIN_SECONDS
        self._next = -float("inf")
        self._closing = False

    def poll(self, collection: Collection) -> bool:
        """Begin, where there is enough to do, and it is not being done; says whether it began."""
        items = collection.items
        enough = max(LEAST_CHANGES, self._share * len(collection.version.items))
        if not self._share or items.changed < enough or not items.count:
            return False
        if (self._task and not self._task.done()) or monotonic() < self._next or not self._serves(collection.number):
            return False
        self._task = asyncio.create_task(self._compact())
        return True

    async def close(self) -> None:
        """End a process that is at work, or about to be; it leaves nothing behind."""
        self._closing = True
        if self._process and self._process.returncode is None:
            self._process.terminate()
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)

    def _serves(self, number: int) -> bool:
        """Else a compaction, of this process or another, is the champion, and not opened here yet."""
        try:
            alias = Store(self._store).champion()
        except (ArtifactError, OSError):  # whoever follows the alias tells of it
            return False
        return alias is not None and alias.version == number

    async def _compact(self) -> None:
        code, said = await self._run()
        lifecycle("compaction", code=code, reason=said)
        if code != BUSY:
            self._wait = AGAIN_SECONDS if code == 0 else min(2 * self._wait, LONGEST_SECONDS)
        self._next = monotonic() + self._wait

    async def _run(self) -> tuple[int | None, str | None]:
        """The exit code, and what was said at last; None where no process could be started."""
        command = (sys.executable, "-P", "-m", "lookalike.index.changes.compact", str(self._store), str(self._keep))
        hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=hidden
            )
        except OSError as error:
            return None, f"{type(error).__name__}: {error.strerror}"
        if self._closing:
            self._process.terminate()
        _, errors = await self._process.communicate()
        code = self._process.returncode
        return code, _last_line(errors, whole=code == REFUSED) if code else None


def _last_line(errors: bytes, *, whole: bool) -> str | None:
    """What a process said at last; of an exception that nobody foresaw only its type: the rest may quote an item."""
    lines = errors.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return (last if whole else last.partition(":")[0])[:LONGEST] or None
