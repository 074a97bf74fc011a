"""Start, watch and stop several worker processes that serve one version on one port.

Ten times a second, each worker's event loop writes the time into its slot of a board in shared memory. A dead worker is
replaced, and so is a worker whose loop hangs; until then no worker is ready. A new worker starts with the version that
the others serve, even if the champion has changed.

With several GPUs, the workers use them in turn, so each GPU has its own queue of batches.
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
"""A worker without a heartbeat for this long makes the service unready."""
STUCK_SECONDS = 10.0
"""A worker without a heartbeat for this long is killed."""
START_SECONDS = 600.0
"""A worker may need this long to start: a version that was never verified is read in full."""
LONGEST_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.2
MAX_FAILURES = 3
"""If this many workers of a slot die in a row before they serve, and no other worker serves, the service gives up."""


class WorkerBoard:
    """The memory that the workers of one service share.

    It has the serving version, the time of each worker's last heartbeat, and the last change that answers include.

    Attributes:
        seen: each worker's last heartbeat, by the system's monotonic clock; 0 before the worker serves.
    """

    def __init__(self, workers: int) -> None:
        self.seen = RawArray("d", workers)
        self._version = RawValue("q", 0)
        self._sequences = RawArray("q", workers)  # each worker writes only its own number, so no lock is needed

    @property
    def version(self) -> int | None:
        """The version of the last heartbeat; None before the first."""
        return self._version.value or None

    def beat(self, slot: int, version: int) -> None:
        """Report that the worker of this slot is healthy and serves this version."""
        self._version.value = version
        self.seen[slot] = time.monotonic()

    @property
    def sequence(self) -> int:
        """The last change that a worker has acknowledged or used in an answer; every answer must include it."""
        return int(max(self._sequences))

    def publish(self, slot: int, sequence: int) -> None:
        """Report that the worker of this slot is about to acknowledge this change, or to answer from it."""
        self._sequences[slot] = max(self._sequences[slot], sequence)

    def check(self) -> None:
        """Raises NotReadyError if a worker is not healthy."""
        healthy = sum(time.monotonic() - seen < FRESH_SECONDS for seen in self.seen)
        if healthy < len(self.seen):
            raise NotReadyError("workers", expected=f"{len(self.seen)} healthy workers", found=str(healthy))


Work = Callable[[Settings, socket.socket, WorkerBoard, int], None]
"""The function of a worker process, called with its slot: serves until SIGTERM."""


def supervise(settings: Settings, listener: socket.socket, work: Work, announce: Callable[[], None]) -> None:
    """Run `settings.workers` processes until SIGTERM or SIGINT; call `announce` once both signals stop them cleanly.

    Raises LookalikeError if the workers die before they serve.
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
    """The place of one worker.

    Attributes:
        failures: workers in a row that died before they served.
        since: when the worker was started, or may be started again, on the monotonic clock.
    """

    process: SpawnProcess | None = None
    failures: int = 0
    since: float = 0.0


class _Workers:
    def __init__(self, settings: Settings, listener: socket.socket, work: Work) -> None:
        self._board = WorkerBoard(settings.workers)
        self._arguments = (settings, listener, self._board)
        self._work = work
        self._slots = [_Slot() for _ in range(settings.workers)]
        self.poll()

    def poll(self) -> None:
        """Reap dead workers, start missing ones, and kill hung ones, which the next poll replaces."""
        for number, slot in enumerate(self._slots):
            if slot.process and not slot.process.is_alive():
                self._reap(number, slot, slot.process)
            if slot.process is None and time.monotonic() >= slot.since:
                slot.process, slot.since = self._start(number), time.monotonic()
            elif slot.process and self._is_stuck(number, slot):
                lifecycle("worker stuck", pid=slot.process.pid)
                slot.process.kill()

    def end(self, seconds: float) -> None:
        """Let all workers finish the accepted calls; kill a worker that has not ended after `seconds`."""
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
        """Free the slot of a dead worker; the next worker waits longer, the more have died before they served."""
        lifecycle("worker died", pid=process.pid, code=process.exitcode)
        forget(process.pid or 0)
        slot.failures = 0 if self._board.seen[number] else slot.failures + 1
        self._board.seen[number] = 0.0
        if slot.failures >= MAX_FAILURES and not any(self._board.seen):
            found = f"a process that ended with {process.exitcode} before it served"
            raise LookalikeError("workers", expected="processes that serve", found=found, remedy="See its log.")
        wait_seconds = min(LONGEST_WAIT_SECONDS, 2.0**slot.failures) if slot.failures else 0.0
        slot.process, slot.since = None, time.monotonic() + wait_seconds

    def _start(self, number: int) -> SpawnProcess:
        arguments = (self._work, *self._arguments, number)
        process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers ignore Ctrl-C; this process stops them
        with one_gpu(number, torch.cuda.device_count()):
            process.start()
        signal.signal(signal.SIGINT, handler)
        return process

    def _is_stuck(self, number: int, slot: _Slot) -> bool:
        seen = self._board.seen[number]
        since, most = (seen, STUCK_SECONDS) if seen else (slot.since, START_SECONDS)
        return time.monotonic() - since > most


def _run(work: Work, *arguments: Any) -> None:
    """The worker process: do the work, and end if the supervising process ends."""
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
