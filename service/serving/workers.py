"""Several processes that serve one version over one port: started, watched, and ended together.

Each worker's event loop sets the time in its slot of a board in shared memory, ten times a second. A worker that died
is replaced, and so is one whose loop stands still; in the meantime no worker says that it is ready. Who takes its place
begins with the version that the others serve, whatever the champion is worth by then.

Where there are several GPUs each worker has one of them, in turn, and so each GPU its own queue of batches.
"""

import multiprocessing
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawArray, RawValue
from pathlib import Path
from typing import Any

import torch

from lookalike.service.errors import NotReadyError
from lookalike.service.observability.logs import lifecycle
from lookalike.service.observability.metrics import forget, share
from lookalike.service.resources import one_gpu
from lookalike.service.settings import Settings
from lookalike.training.errors import LookalikeError

__all__ = ["Work", "WorkerBoard", "supervise"]

FRESH_SECONDS = 1.5
"""A worker that was not seen for so long makes the service unready."""
STUCK_SECONDS = 10.0
"""A worker that was not seen for so long is killed."""
START_SECONDS = 600.0
"""To open a version that was never verified means to read all of it."""
LONGEST_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.2
MOST_DEATHS = 3
"""Of one place, in a row, before they serve: then, where no other serves either, there is no use in more."""


class WorkerBoard:
    """The memory that the workers of one service share.

    It holds the version that serves, when each worker was last seen, and the last change that their answers include.

    Attributes:
        seen: by the system's monotonic clock; 0 before the worker serves.
    """

    def __init__(self, workers: int) -> None:
        self.seen = RawArray("d", workers)
        self._version = RawValue("q", 0)
        self._sequences = RawArray("q", workers)  # each worker writes its own, so no lock is needed

    @property
    def version(self) -> int | None:
        """What the worker serves that was seen last; None before one does."""
        return self._version.value or None

    def beat(self, slot: int, version: int) -> None:
        """The worker of this slot is well, and serves this version."""
        self._version.value = version
        self.seen[slot] = time.monotonic()

    @property
    def sequence(self) -> int:
        """The last change that a worker has acknowledged, or has used in an answer; every answer must include it."""
        return int(max(self._sequences))

    def publish(self, slot: int, sequence: int) -> None:
        """The worker of this slot is about to acknowledge this change, or to answer from it."""
        self._sequences[slot] = max(self._sequences[slot], sequence)

    def check(self) -> None:
        """Raises NotReadyError where a worker is not well."""
        well = sum(time.monotonic() - seen < FRESH_SECONDS for seen in self.seen)
        if well < len(self.seen):
            raise NotReadyError("workers", expected=f"{len(self.seen)} that are well", found=str(well))


Work = Callable[[Settings, socket.socket, WorkerBoard, int], None]
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
                time.sleep(POLL_SECONDS)
                workers.poll()
        finally:
            workers.end(settings.stop_seconds + 5)


@dataclass
class _Slot:
    """A worker's place. `deaths` counts those that died in a row before they served."""

    process: SpawnProcess | None = None
    deaths: int = 0
    since: float = 0.0
    """When it was started, or may be started again, on the monotonic clock."""


class _Workers:
    def __init__(self, settings: Settings, listener: socket.socket, work: Work) -> None:
        self._board = WorkerBoard(settings.workers)
        self._arguments = (settings, listener, self._board)
        self._work = work
        self._slots = [_Slot() for _ in range(settings.workers)]
        self.poll()

    def poll(self) -> None:
        """Bury who died, start who is missing, and kill who stands still, to be replaced the next time."""
        for number, slot in enumerate(self._slots):
            if slot.process and not slot.process.is_alive():
                self._reap(number, slot, slot.process)
            if slot.process is None and time.monotonic() >= slot.since:
                slot.process, slot.since = self._start(number), time.monotonic()
            elif slot.process and self._is_stuck(number, slot):
                lifecycle("worker stuck", pid=slot.process.pid)
                slot.process.kill()

    def end(self, seconds: float) -> None:
        """Let all finish what they accepted; who has not after so many seconds is killed."""
        processes = [slot.process for slot in self._slots if slot.process]
        for process in processes:
            process.terminate()
        until = time.monotonic() + seconds
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _reap(self, number: int, slot: _Slot, process: SpawnProcess) -> None:
        """The next one has to wait the longer the more of them died before they served, while others serve."""
        lifecycle("worker died", pid=process.pid, code=process.exitcode)
        forget(process.pid or 0)
        slot.deaths = 0 if self._board.seen[number] else slot.deaths + 1
        self._board.seen[number] = 0.0
        if slot.deaths >= MOST_DEATHS and not any(self._board.seen):
            raise LookalikeError(
                "workers",
                expected="processes that serve",
                found=f"the last one ended with {process.exitcode} before it did",
                remedy="Its log says why.",
            )
        wait_seconds = min(LONGEST_WAIT_SECONDS, 2.0**slot.deaths) if slot.deaths else 0.0
        slot.process, slot.since = None, time.monotonic() + wait_seconds

    def _start(self, number: int) -> SpawnProcess:
        arguments = (self._work, *self._arguments, number)
        process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the workers too, who leave it to us
        with one_gpu(number, torch.cuda.device_count()):
            process.start()
        signal.signal(signal.SIGINT, ours)
        return process

    def _is_stuck(self, number: int, slot: _Slot) -> bool:
        seen = self._board.seen[number]
        since, most = (seen, STUCK_SECONDS) if seen else (slot.since, START_SECONDS)
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
