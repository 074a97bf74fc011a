"""Servers in separate processes: a store to serve, a server on chosen cores, and its resources from /proc."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows

__all__ = [
    "Footprint",
    "ask",
    "children",
    "footprint",
    "free_port",
    "lookalike",
    "running_server",
    "store_of",
    "two_cores",
    "wait_until_ready",
]

GIVE_UP = 60.0


def two_cores() -> tuple[int, int]:
    """The server's core and the client's core."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    return first, second


def store_of(existing: Path | None, folder: Path) -> Store:
    """The store that was given, or a store in `folder` with a promoted version of the 60,000 training images."""
    if existing:
        return Store(existing)
    rows = open_rows("fashion-mnist")
    train(rows, load_config(overrides=["fit.epochs=5"]), folder / "run")
    store = Store(folder / "store")
    store.promote(build(rows, folder / "run", store))
    return store


def lookalike(store: Store, port: int) -> list[str]:
    """The module and arguments that serve a store."""
    return ["lookalike", "serve", "--store", str(store.folder), "--port", str(port)]


@contextlib.contextmanager
def running_server(arguments: list[str], cores: Sequence[int], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m ARGUMENTS` on these cores; end it and all its child processes after the block."""
    command = ["taskset", "--cpu-list", ",".join(map(str, cores)), sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(port: int, body: str, path: str = "/search", *, patience: float = GIVE_UP) -> dict[str, Any]:
    """Send one call with a JSON body, and retry until the server answers.

    Raises:
        RuntimeError: there is no answer, or the answer is not a 200.
    """
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), headers)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=patience) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.status} {error.read()[:500]!r}") from error
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError(f"no answer on port {port}")


def wait_until_ready(
    port: int, process: subprocess.Popen[bytes], *, patience: float = GIVE_UP, every: float = 0.05
) -> None:
    """Request /readyz repeatedly until it returns 200.

    Raises:
        RuntimeError: the process ended, or took too long.
    """
    url, deadline = f"http://127.0.0.1:{port}/readyz", time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(every)
    raise RuntimeError(f"expected 200 from {url} within {patience:g} s, found none (exit code {process.poll()})")


def children(pid: int) -> list[tuple[int, str]]:
    """The running children of a process, with their command lines; none if the process has ended."""
    found = []
    with contextlib.suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()):
            with contextlib.suppress(OSError):
                found.append((child, Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8", errors="replace")))
    return found


def free_port() -> int:
    """A port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Footprint:
    """The resources of a process: anonymous memory in bytes, open files, threads."""

    anonymous: int
    files: int
    threads: int


def footprint(pid: int) -> Footprint:
    """Read the current footprint from /proc."""
    at = Path(f"/proc/{pid}")
    lines = dict(line.split(":", 1) for line in (at / "status").read_text(encoding="ascii").splitlines())
    files = sum(1 for _ in (at / "fd").iterdir())
    return Footprint(int(lines["RssAnon"].split()[0]) * 1024, files, int(lines["Threads"]))
