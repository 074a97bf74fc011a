"""Make a system call of a process fail, or kill the process before the call, with strace's fault injection."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["CALLS", "FAULTS", "Fault", "Traced", "can_trace", "traced"]

CALLS = (
    *("write", "pwrite64", "sendfile", "ftruncate", "fsync", "fdatasync", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)
"""All calls by which these steps change the disk; strace skips those that this kind of processor does not have."""
FAULTS = {
    "kill": "signal=SIGKILL",
    "ENOSPC once": "error=ENOSPC",
    "EIO once": "error=EIO",
    "ENOSPC from then on": "error=ENOSPC",
    "EIO from then on": "error=EIO",
    "EIO five times": "error=EIO",
}
PATIENCE = 60

Target = Callable[..., None]


@dataclass(frozen=True)
class Fault:
    """One of FAULTS, at the n-th time that a process makes a call."""

    kind: str
    call: str
    number: int

    @property
    def option(self) -> str:
        onwards = "+" if self.kind.endswith("from then on") else ""
        onwards = f"..{self.number + 4}" if self.kind.endswith("five times") else onwards
        return f"inject={self.call}:{FAULTS[self.kind]}:when={self.number}{onwards}"


@dataclass(frozen=True)
class Traced:
    """The end of a process: whether it was killed, whether the fault happened, and how often it made each of CALLS."""

    killed: bool
    came: bool
    calls: Counter[str]


def can_trace() -> bool:
    """Whether strace is installed and may attach to a process that is not its own child."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        trace = ["strace", "-p", str(sleeper.pid), "-o", os.devnull]
        with subprocess.Popen(trace, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            sleeper.kill()
    return "attached" in said


def traced(target: Target, *arguments: object, fault: Fault | None = None) -> Traced:
    """Run a process to its end, from when it is ready, under a fault or none."""
    with tempfile.NamedTemporaryFile() as log:
        with _traced(target, arguments, ["-o", log.name, *(["-e", fault.option] if fault else [])]) as process:
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
                raise TimeoutError(str(fault))
        text = Path(log.name).read_text(errors="replace")
    killed = process.exitcode == -signal.SIGKILL
    return Traced(killed, killed or "(INJECTED)" in text, Counter(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE)))


@contextmanager
def _traced(target: Target, arguments: tuple[object, ...], options: list[str]) -> Iterator[Any]:
    """A process that sent its number, and that continues only after strace has attached to it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.steps"])
    connection, remote = context.Pipe()
    process = context.Process(target=target, args=(*arguments, remote))
    process.start()
    remote.close()
    pid = connection.recv()
    trace = ["strace", "-f", "-p", str(pid), "-e", f"trace={','.join(f'?{call}' for call in CALLS)}", *options]
    with subprocess.Popen(trace, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        for line in strace.stderr:
            if "attached" in line:
                break
        else:
            raise OSError(f"strace did not attach to process {pid}")
        _go(connection)
        yield process
        strace.stderr.read()


def _go(connection: Connection) -> None:
    with contextlib.suppress(BrokenPipeError):
        connection.send("go")
    connection.close()
