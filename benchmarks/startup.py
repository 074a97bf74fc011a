"""How long until it serves: from a clean clone to a version of `digits`, and from a start to a version of 60,000 items?

ours    `git clone` of HEAD, then in it `python -m lookalike demo digits` with an empty store, until /readyz
        returns 200: two trainings, the table, the build, the promotion and the start of the service
floor   a process that imports the four libraries that the chain uses, and ends

ours    `python -m lookalike serve` on a version of the 60,000 training images of Fashion-MNIST, until /readyz returns
        200: with the receipt that `promote` writes, and without it, when every file is read and hashed again
floor   a process that imports torch, faiss and fastapi, and ends

ours    `lookalike --help`, and `lookalike versions` on the same store
floor   a process that imports typer and rich, and ends

The steps of a start are measured by a process that does the same as `serve`, and reads the clock between the steps.
Uncommitted changes are not in the clone.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.report import Bar, Row, alternate, medians, report, row, seconds
from benchmarks.service_process import free_port, store_of, wait_until_ready

__all__ = ["main"]

ROUNDS = 3
GIVE_UP = 300.0
REPOSITORY = Path(__file__).parent.parent
_STEPS = """
import json, sys, time
from pathlib import Path
marks = [("the interpreter", time.time())]
import torch, faiss, fastapi
marks.append(("imports: torch, faiss, fastapi", time.time()))
import lookalike.__main__, lookalike.service.server
from lookalike.service.settings import load_settings
marks.append(("imports: the rest", time.time()))
from lookalike.index.changes.collection import open_collection
from lookalike.index.versions.store import Store
settings = load_settings(store=Path(sys.argv[1]), port=0)
store = Store(settings.store)
collection = open_collection(store, store.champion_number(), settings.device)
marks.append(("opening and verifying the version", time.time()))
import lookalike.service.app
from lookalike.service.serving.preflight import prepare
from lookalike.service.serving.engine import use_threads
lookalike.service.app.create_app(settings, collection)
marks.append(("making the app", time.time()))
use_threads(settings.torch_threads)
prepare(collection)
marks.append(("warming", time.time()))
before, steps = float(sys.argv[2]), {}
for step, at in marks:
    steps[step], before = at - before, at
print(json.dumps(steps))
"""


def seconds_to_serve() -> float:
    """Seconds from the start of the clone to the first 200 of /readyz."""
    with tempfile.TemporaryDirectory() as name:
        clone, port = Path(name) / "clone", free_port()
        started = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        with demo(clone, Path(name) / "store", port) as process:
            wait_until_ready(port, process, patience=GIVE_UP, every=0.1)
            return time.perf_counter() - started


def imported_after() -> float:
    """Seconds for the libraries alone."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, faiss, sklearn.decomposition, fastapi"], check=True)
    return time.perf_counter() - started


@contextmanager
def demo(clone: Path, store: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command on the clone's own source; it must end cleanly on a signal."""
    command = [sys.executable, "-m", "lookalike", "demo", "digits", "--store", str(store), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
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


def ready_after(store: Path, *, receipt: bool) -> float:
    """Seconds from the start of `lookalike serve` to the first 200 of /readyz."""
    if not receipt:
        shutil.rmtree(store / "verified", ignore_errors=True)
    port = free_port()
    command = [sys.executable, "-m", "lookalike", "serve", "--store", str(store), "--port", str(port)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(port, process, every=0.005)
            return time.perf_counter() - started
        finally:
            process.terminate()


def serving_imported_after() -> float:
    """Seconds for the libraries of the service alone."""
    return seconds(lambda: subprocess.run([sys.executable, "-c", "import torch, faiss, fastapi"], check=True))


def steps_of(store: Path) -> dict[str, float]:
    """Seconds of each step of a start, up to the bound socket."""
    command = [sys.executable, "-c", _STEPS, str(store), repr(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    steps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return steps


def compare_clone(rounds: int) -> list[Row]:
    """The row about the clone."""
    found = medians(alternate({"ours": seconds_to_serve, "floor": imported_after}, rounds))
    claim = "from a clone to a served version of digits"
    return [row(claim, "s", ours=found["ours"], floor=found["floor"], bar=Bar("ours", "<", 60))]


def compare_start(store: Path, rounds: int) -> list[Row]:
    """The rows about a start with an existing version."""
    ready_after(store, receipt=True)  # writes the receipt, and loads files into the page cache
    segments: dict[str, Callable[[], float]] = {
        "ours": partial(ready_after, store, receipt=True),
        "hashed": partial(ready_after, store, receipt=False),
        "floor": serving_imported_after,
    }
    found, bar, claim = medians(alternate(segments, rounds)), Bar("ours", "<", 3), "from a start to ready, 60,000 items"
    ready_after(store, receipt=True)
    each = [steps_of(store) for _ in range(rounds)]
    parts = {step: statistics.median(steps[step] for steps in each) for step in each[0]}
    return [
        row(claim, "s", ours=found["ours"], floor=found["floor"], bar=bar),
        row(f"{claim}, every file hashed", "s", ours=found["hashed"], floor=found["floor"], bar=bar),
        *(row(f"of it: {step}", "s", ours=took) for step, took in parts.items()),
    ]


def command_after(*arguments: str) -> float:
    """Seconds of a command that only prints."""
    command = [sys.executable, "-m", "lookalike", *arguments]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def compare_commands(store: Path, rounds: int) -> list[Row]:
    """The rows about commands that only print."""
    floor = [sys.executable, "-c", "import typer, rich.console"]
    segments: dict[str, Callable[[], float]] = {
        "--help": partial(command_after, "--help"),
        "versions": partial(command_after, "versions", "--store", str(store)),
        "floor": lambda: seconds(lambda: subprocess.run(floor, check=True)),
    }
    found, bar = medians(alternate(segments, 3 * rounds)), Bar("ours", "<", 0.4)
    return [
        row(f"lookalike {name}", "s", ours=found[name], floor=found["floor"], bar=bar)
        for name in ("--help", "versions")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--store", type=Path, help="a store with a promoted version of fashion-mnist [default: a new store]"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=["clone", "start", "commands"])
    options = parser.parse_args()
    rows: list[Row] = []
    if options.only in (None, "clone"):
        rows += compare_clone(options.rounds)
    if options.only != "clone":
        with tempfile.TemporaryDirectory() as name:
            existing = store_of(options.store, Path(name)).folder
            own = Path(shutil.copytree(existing, Path(name) / "own"))  # a copy, because its receipt is deleted
            rows += compare_commands(own, options.rounds)
            if options.only != "commands":
                rows += compare_start(own, options.rounds)
    report("startup", rows)


if __name__ == "__main__":
    main()
