"""The faults of `benchmarks.consistency`: kill and stop processes, and change versions."""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

from benchmarks.service_process import children, lookalike, wait_until_ready
from lookalike.index.changes.compact import compact
from lookalike.index.errors import JobError, StoreError
from lookalike.index.versions.store import Store

__all__ = ["Service", "change_versions", "disturb"]

STARTS = 5
"""Attempts to start the service: the port of a killed service becomes free after a moment."""
FAULTS = {
    "kill a worker": 3,
    "stop a worker": 4,
    "stop the service": 2,
    "kill the service": 1,
    "stop a worker for long": 0.3,
}
STOPS = (0.02, 1.5)
"""The least and the greatest number of seconds for which processes are stopped."""
LONG_STOP = 12.0
"""Seconds: longer than the service lets a worker hang, so that it kills the worker."""
BETWEEN = (0.2, 2.5)
KEEP = 3
"""The number of versions that are kept after a compaction."""


class Service:
    """`lookalike serve` with some workers, in a process group that can be killed, stopped and restarted."""

    def __init__(self, store: Store, port: int, workers: int, log: Path) -> None:
        self.port = port
        self._command = [sys.executable, "-m", *lookalike(store, port), "--workers", str(workers), "--device", "cpu"]
        self._log = log
        self._process = self._start()

    def start(self) -> None:
        """Start the service; returns when it is ready.

        Raises:
            RuntimeError: the service does not become ready.
        """
        for left in reversed(range(STARTS)):
            try:
                wait_until_ready(self.port, self._process)
                return
            except RuntimeError:
                self.kill()
                if not left:
                    raise
                self._process = self._start()

    def kill(self) -> None:
        """Kill all processes at once with SIGKILL."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self._process = self._start()
        self.start()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def workers(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [pid for pid, command in children(self._process.pid) if "spawn_main" in command]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=log, env=os.environ, start_new_session=True
            )


def disturb(service: Service, chance: random.Random, goes_on: Callable[[], bool]) -> Counter[str]:
    """Kill and stop processes at random moments while `goes_on` is true; returns how often."""
    done: Counter[str] = Counter()
    while goes_on():
        time.sleep(chance.uniform(*BETWEEN))
        (name,) = chance.choices(list(FAULTS), list(FAULTS.values()))
        if name == "kill the service":
            service.restart()
        elif name == "stop the service":
            service.signal(signal.SIGSTOP)
            time.sleep(chance.uniform(*STOPS))
            service.signal(signal.SIGCONT)
        elif not (workers := service.workers()):
            continue
        elif name == "kill a worker":
            _signal(chance.choice(workers), signal.SIGKILL)
        else:
            _stop(chance.choice(workers), LONG_STOP if name == "stop a worker for long" else chance.uniform(*STOPS))
        done[name] += 1
    return done


def _stop(pid: int, seconds: float) -> None:
    _signal(pid, signal.SIGSTOP)
    time.sleep(seconds)
    _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def change_versions(store: Store, chance: random.Random, ended: threading.Event) -> Counter[str]:
    """Compact, promote and roll back at random moments until `ended` is set; returns how often."""
    done: Counter[str] = Counter()
    while not ended.wait(chance.uniform(*BETWEEN)):
        name = chance.choice(["compact", "compact", "promote", "roll back"])
        try:
            if name == "compact":
                with redirect_stderr(io.StringIO()):
                    compact(store, keep=KEEP)
            elif name == "promote":
                store.promote(chance.choice(store.numbers()))
            else:
                store.rollback()
        except (StoreError, JobError):  # no version to roll back to, or no item left
            name += ", refused"
        done[name] += 1
    return done
