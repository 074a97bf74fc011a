"""Start a compaction, in another process, once the changed items are a large enough share."""

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
"""No compaction starts below this many changes, which do not slow a search down."""
AGAIN_SECONDS = 60.0
"""From the end of one attempt to the next in this process; of several processes, the first has the store's lock."""
LONGEST_SECONDS = 3_600.0
"""Each failed attempt doubles the time to the next attempt, up to this."""
LONGEST = 300
"""Characters of a process's last line that are logged."""


class Compactor:
    """Starts compactions; call it from one event loop. All processes serve the new version, as it becomes champion."""

    def __init__(self, store: Path, share: float, keep: int) -> None:
        """
        Args:
            share: of the version's items, the share that may be new, replaced or deleted; 0 means no compaction.
            keep: how many versions to keep (index.changes.retention).
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
        """Start a compaction if there are enough changes and none runs; return whether it started."""
        items = collection.items
        enough = max(LEAST_CHANGES, self._share * len(collection.version.items))
        if not self._share or items.changed < enough or not items.count:
            return False
        if (self._task and not self._task.done()) or monotonic() < self._next or not self._serves(collection.number):
            return False
        self._task = asyncio.create_task(self._compact())
        return True

    async def close(self) -> None:
        """Terminate a running or starting process; it leaves no files."""
        self._closing = True
        if self._process and self._process.returncode is None:
            self._process.terminate()
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)

    def _serves(self, number: int) -> bool:
        """Whether this version is the champion; if not, a newer version is, which is not opened here yet."""
        try:
            alias = Store(self._store).champion()
        except (ArtifactError, OSError):  # service.serving.serving, which watches the alias, logs the error
            return False
        return alias is not None and alias.version == number

    async def _compact(self) -> None:
        code, reason = await self._run()
        lifecycle("compaction", code=code, reason=reason)
        if code != BUSY:
            self._wait = AGAIN_SECONDS if code == 0 else min(2 * self._wait, LONGEST_SECONDS)
        self._next = monotonic() + self._wait

    async def _run(self) -> tuple[int | None, str | None]:
        """The exit code (None if no process could be started), and the last line of a process that failed."""
        command = (sys.executable, "-P", "-m", "lookalike.index.changes.compact", str(self._store), str(self._keep))
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=environment
            )
        except OSError as error:
            return None, f"{type(error).__name__}: {error.strerror}"
        if self._closing:
            self._process.terminate()
        _, errors = await self._process.communicate()
        code = self._process.returncode
        return code, _last_line(errors, whole=code == REFUSED) if code else None


def _last_line(errors: bytes, *, whole: bool) -> str | None:
    """The last line of standard error; unless `whole`, only an exception's type, because its text may quote an item."""
    lines = errors.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return (last if whole else last.partition(":")[0])[:LONGEST] or None
