"""How long from a clean clone to a served version of `digits`, after the installation?

ours    `git clone` of HEAD, then in it `python -m lookalike demo digits` with an empty store, until /readyz
        says 200: two trainings, the table, the build, the promotion and the start of the service
floor   a process that imports the four libraries that the chain stands on, and ends

What is not committed is not measured.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import Bar, Row, alternate, medians, report, row

__all__ = ["main"]

ROUNDS = 3
GIVE_UP = 300.0
REPOSITORY = Path(__file__).parent.parent


def served_after() -> float:
    """Seconds from the start of the clone to the first 200 of /readyz."""
    with tempfile.TemporaryDirectory() as name:
        clone, port = Path(name) / "clone", free_port()
        started = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        with demo(clone, Path(name) / "store", port) as process:
            wait_until_ready(f"http://127.0.0.1:{port}/readyz", process)
            return time.perf_counter() - started


def imported_after() -> float:
    """Seconds for the libraries alone."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, faiss, sklearn.decomposition, fastapi"], check=True)
    return time.perf_counter() - started


@contextmanager
def demo(clone: Path, store: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command, run on the clone's own source; it must end cleanly when it is told to."""
    command = [sys.executable, "-m", "lookalike", "demo", "digits", "--store", str(store), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (clone.parent / "output").open("w+b") as output:
        process = subprocess.Popen(command, cwd=clone, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
        except BaseException:
            output.seek(0)
            sys.stderr.buffer.write(output.read()[-4_000:])
            raise
        finally:
            process.kill()
            process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Ask ten times a second.

    Raises:
        RuntimeError: the command ended, or took too long.
    """
    deadline = time.monotonic() + GIVE_UP
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"expected 200 from {url} within {GIVE_UP:g} s, found none (exit code {process.poll()})")


def free_port() -> int:
    """A port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compare(rounds: int) -> list[Row]:
    """The rows of the report."""
    seconds = medians(alternate({"ours": served_after, "floor": imported_after}, rounds))
    claim = "from a clone to a served version of digits"
    return [row(claim, "s", ours=seconds["ours"], floor=seconds["floor"], bar=Bar("ours", "<", 60))]


def main() -> None:
    report("startup", compare(ROUNDS))


if __name__ == "__main__":
    main()
