"""How many searches a second, over HTTP, with one row of 784 numbers as JSON from 16 connections?

ours    `lookalike serve`
peer    a plain `def` endpoint with torch and FAISS: the same encoder, index and answer (benchmarks.service_apps)
floor   an empty handler that reads the same body: what HTTP itself costs

The three servers have one core, one at a time has work, and `wrk` has the other core. The rows are noisy test
images of Fashion-MNIST as they are, with decimals; before the clock starts, each server's answer is compared
with the version's own, and the recall of the index is printed: a fast answer must be a right one.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Bar, alternate, medians, report, row
from benchmarks.startup import free_port
from index.build import build
from index.store import Store
from training.config import load_config
from training.job import train
from training.judge import add_noise
from training.rows import open_rows, read_sample

__all__ = ["main"]

CONNECTIONS = 16
SECONDS = 5
ROUNDS = 5
BODIES = 64
_LOAD = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local i = 0
request = function()
  i = i % #bodies + 1
  return wrk.format("POST", "/search", {["Content-Type"] = "application/json"}, bodies[i])
end
"""


def make_store(folder: Path) -> Store:
    """A promoted version of the 60,000 training images; a few epochs give it the structure of a real one."""
    rows = open_rows("fashion-mnist")
    train(rows, load_config(overrides=["fit.epochs=5"]), folder / "run")
    store = Store(folder / "store")
    store.promote(build(rows, folder / "run", store))
    return store


def make_bodies(store: Store, folder: Path) -> tuple[Path, list[str]]:
    """A file of one body a line, and the ids that the first one must find."""
    version = store.open_champion()
    images, _ = read_sample(open_rows("fashion-mnist:test"), BODIES, 0)
    noisy = np.round(add_noise(images, version.encoder.preprocess, level=0.1), 2)
    path = folder / "bodies"
    path.write_text("".join(json.dumps({"inputs": [row], "limit": 10}) + "\n" for row in noisy.tolist()))
    _, positions = version.index.search(version.embed(noisy[:1].astype(np.float32)), 10)
    return path, [version.items.id_at(int(position)) for position in positions[0]]


@contextlib.contextmanager
def served(arguments: list[str], core: int) -> Iterator[None]:
    """A server on one core."""
    process = subprocess.Popen(["taskset", "--cpu-list", str(core), sys.executable, "-m", *arguments])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def ask(port: int, body: str) -> dict[str, Any]:
    """One search, tried until the server is there."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/search", body.encode(), headers)
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                given: dict[str, Any] = json.load(answer)
                return given
        except urllib.error.URLError:
            time.sleep(0.1)
    raise RuntimeError(f"nobody answers on port {port}")


def requests_per_second(port: int, bodies: Path, script: Path, core: int) -> float:
    """What wrk counts; an answer that is no 200 ends the benchmark."""
    command = ["taskset", "--cpu-list", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-s", str(script)]
    environment = {**os.environ, "BODIES": str(bodies)}
    url = f"http://127.0.0.1:{port}/search"
    printed = subprocess.run([*command, url], env=environment, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in printed:
        raise RuntimeError(printed)
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", printed)[0])


def measure(store: Store, folder: Path) -> dict[str, float]:
    """Requests per second of the three, in alternating rounds."""
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    bodies, wanted = make_bodies(store, folder)
    script = folder / "load.lua"
    script.write_text(_LOAD)
    ports = {name: free_port() for name in ("ours", "peer", "floor")}
    at = str(store.folder)
    commands = {
        "ours": ["lookalike", "serve", "--store", at, "--port", str(ports["ours"])],
        "peer": ["benchmarks.service_apps", "plain", at, str(ports["peer"])],
        "floor": ["benchmarks.service_apps", "empty", at, str(ports["floor"])],
    }
    with contextlib.ExitStack() as stack:
        for name, command in commands.items():
            stack.enter_context(served(command, server_core))
            given = ask(ports[name], bodies.read_text().splitlines()[0])
            if name != "floor" and [hit["id"] for hit in given["results"][0]["hits"]] != wanted:
                raise RuntimeError(f"{name} answers otherwise than the version itself")
        segments = {
            name: lambda port=port: requests_per_second(port, bodies, script, client_core)
            for name, port in ports.items()
        }
        return medians(alternate(segments, ROUNDS))


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name))
        found = store.open_champion().manifest["evidence"]
        rates = measure(store, Path(name))
    rows = [
        row(
            "POST /search against a plain def endpoint",
            "requests/s",
            ours=rates["ours"],
            peer=rates["peer"],
            bar=Bar("ours / peer", ">=", 2),
        ),
        row("POST /search against an empty handler", "requests/s", ours=rates["ours"], floor=rates["floor"]),
        row("recall@10 of that index, held-out queries", "", ours=found["recall"]),
    ]
    report("service", rows, f"One query at a time in the index: {found['latency_us']:.0f} µs, one thread.")


if __name__ == "__main__":
    main()
