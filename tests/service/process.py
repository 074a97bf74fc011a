"""The command line as a real process, to test signals, sockets and exit codes."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["SEARCH", "Process", "connect", "free_port", "read_status", "running"]

SEARCH = "POST /search HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
"""How a head begins."""

START_SECONDS = 90.0
"""A process that has not announced its address by then is killed."""


@dataclass
class Process:
    """A process of `lookalike` that has announced its address."""

    popen: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.partition("://")[2].rsplit(":", 1)
        return host.strip("[]"), int(port)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; return the exit code and standard error."""
        self.popen.send_signal(number)
        _, errors = self.popen.communicate(timeout=60)
        return self.popen.returncode, errors


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Process]:
    """`python -m lookalike ARGUMENTS`, once it has printed its URL; it is killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "lookalike", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as popen:
        watchdog = threading.Timer(START_SECONDS, popen.kill)
        watchdog.start()
        try:
            process = Process(popen)
            while not process.url:
                _read_line(process)
            watchdog.cancel()
            yield process
        finally:
            watchdog.cancel()
            popen.kill()


def _read_line(process: Process) -> None:
    assert process.popen.stdout is not None
    line = process.popen.stdout.readline()
    assert line, process.popen.communicate()[1]
    process.lines.append(line)
    if found := re.search(r"https?://\S+:\d+", line):
        process.url = found[0]


def connect(address: tuple[str, int], head: str = "") -> socket.socket:
    """A connection that has sent the head of a request, lines by LF."""
    connection = socket.create_connection(address, timeout=30)
    connection.sendall(head.replace("\n", "\r\n").encode())
    return connection


def read_status(connection: socket.socket) -> int:
    """The status of the next answer on a connection."""
    received = b""
    while b"\r\n" not in received:
        part = connection.recv(65_536)
        assert part, f"closed after {received!r}"
        received += part
    return int(received.split()[1])


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
