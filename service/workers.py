"""Several processes that serve one version over one port: started, watched, and ended together.

Each worker's event loop sets the time in its slot of a board in shared memory, ten times a second. A worker that died
is replaced, and so is one whose loop stands still; in the meantime no worker says that it is ready. Who takes its place
begins with the version that the others serve, whatever the champion is worth by then.
"""

import multiprocessing
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawArray, RawValue
from pathlib import Path
from typing import Any

from service.errors import NotReadyError
from service.logs import lifecycle
from service.metrics import forget, share
from service.settings import Settings
from training.errors import LookalikeError

__all__ = ["Board", "Work", "supervise"]

FRESH_SECONDS = 1.5
"""A worker that was not seen for so long makes the service unready."""
STUCK_SECONDS = 10.0
"""A worker that was not seen for so long is killed."""
START_SECONDS = 60.0
LOOK_SECONDS = 0.2
MOST_DEATHS = 3
"""Workers that die in a row before they serve: then there is no use in more."""


class Board:
    """What serves, and when each worker was last seen, by the system's monotonic clock; 0 before it serves."""

    def __init__(self, workers: int) -> None:
        self.seen = RawArray("d", workers)
        self._version = RawValue("q", 0)

    @property
    def version(self) -> int | None:
        """What the worker serves that was seen last; None before one does."""
        return self._version.value or None

    def beat(self, slot: int, version: int) -> None:
        """The worker of this slot is well, and serves this version."""
        self._version.value = version
        self.seen[slot] = time.monotonic()

    def check(self) -> None:
        """Raises NotReadyError where a worker is not well."""
        well = sum(time.monotonic() - seen < FRESH_SECONDS for seen in self.seen)
        if well < len(self.seen):
            raise NotReadyError("workers", expected=f"{len(self.seen)} that are well", found=str(well))


Work = Callable[[Settings, socket.socket, Board, int], None]
"""What a worker does, given its slot: it serves until SIGTERM."""


def supervise(settings: Settings, listener: socket.socket, work: Work, announce: Callable[[], None]) -> None:
    """Run `settings.workers` processes until SIGTERM or SIGINT; `announce` is called once those end it cleanly.

    Raises:
        LookalikeError: workers die before they serve.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    announce()
    with tempfile.TemporaryDirectory(prefix="lookalike-metrics-") as folder:
        share(Path(folder))
        workers = _Workers(settings, listener, work)
        try:
            while not stopping:
                time.sleep(LOOK_SECONDS)
                workers.look()
        finally:
            workers.end(settings.stop_seconds + 5)


class _Workers:
    def __init__(self, settings: Settings, listener: socket.socket, work: Work) -> None:
        self._board = Board(settings.workers)
        self._arguments = (settings, listener, self._board)
        self._work = work
        self._deaths = 0
        self._processes = [self._start(slot) for slot in range(settings.workers)]
        self._started = [time.monotonic()] * settings.workers

    def look(self) -> None:
        """Replace who died, and kill who stands still, to be replaced the next time."""
        if all(self._board.seen):
            self._deaths = 0
        for slot, process in enumerate(self._processes):
            if process.is_alive():
                if self._is_stuck(slot):
                    lifecycle("worker stuck", pid=process.pid)
                    process.kill()
                continue
            self._deaths += not self._board.seen[slot]
            if self._deaths >= MOST_DEATHS:
                raise LookalikeError(
                    "workers",
                    expected="processes that serve",
                    found=f"the last one ended with {process.exitcode} before it did",
                    remedy="Its log says why.",
                )
            lifecycle("worker died", pid=process.pid, code=process.exitcode)
            forget(process.pid or 0)
            self._processes[slot], self._started[slot] = self._start(slot), time.monotonic()

    def end(self, seconds: float) -> None:
        """Let all finish what they accepted; who has not after so many seconds is killed."""
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + seconds
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _start(self, slot: int) -> SpawnProcess:
        self._board.seen[slot] = 0.0
        process = multiprocessing.get_context("spawn").Process(target=_run, args=(self._work, *self._arguments, slot))
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the workers too, who leave it to us
        process.start()
        signal.signal(signal.SIGINT, ours)
        return process

    def _is_stuck(self, slot: int) -> bool:
        seen = self._board.seen[slot]
        since, most = (seen, STUCK_SECONDS) if seen else (self._started[slot], START_SECONDS)
        return time.monotonic() - since > most


def _run(work: Work, *arguments: Any) -> None:
    """In the worker: work, and end when the process that watches it is no more."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        work(*arguments)
    except LookalikeError as error:
        lifecycle("worker failed", reason=str(error))
        sys.exit(2)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGTERM)
