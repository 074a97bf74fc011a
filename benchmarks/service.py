"""How many searches per second, over HTTP, with one row of 784 numbers as JSON from 1, 16 and 64 connections?

ours    `lookalike serve`
peers   a plain `def` endpoint with torch and FAISS: the same encoder, index and answer; an endpoint that only has
        pydantic validate the same body, and counts its numbers (both in benchmarks.service_apps); and LitServe with the
        same encoder and index (benchmarks.service_litserve), at the best of some settings of its batching
floor   an empty Starlette handler that reads the same body: the cost of HTTP itself

A peer that fails is printed as failed, and its column is empty.

The servers share one core and have work in turns, and one thread of `wrk` has the other core; LitServe, which is
several processes, and ours when compared with it share both cores with `wrk`. The rows are noisy test images of
Fashion-MNIST with all their decimals. The recall compares the ids that came over HTTP, under that load, with exact
search over the embeddings: a fast answer must be a right one. wrk measures the latencies.
"""

import argparse
import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_load import Load, alternated, attempt, wrk
from benchmarks.service_process import ask, free_port, lookalike, running_server, store_of, two_cores
from lookalike.index.versions.store import Store
from lookalike.training.evaluation.judge import add_noise
from lookalike.training.rows import open_rows, read_sample

__all__ = ["Trial", "main"]

CONNECTIONS = (1, 16, 64)
SECONDS = 5.0
ROUNDS = 5
BODIES = 256
ASKED = 1_000
BATCHING = ((1, 0.0), (16, 0.001), (16, 0.005), (64, 0.001), (64, 0.01))
"""LitServe's max_batch_size and batch_timeout in seconds."""
LIMIT = 10


@dataclass(frozen=True)
class Trial:
    """The server, the requests, and the duration.

    Attributes:
        bodies: a file with one body per line; `nearest` contains the exactly nearest ids of each.
    """

    store: Store
    bodies: Path
    nearest: list[list[str]]
    seconds: float
    rounds: int

    def lines(self) -> list[str]:
        return self.bodies.read_text().splitlines()

    def load(self, port: int, connections: int, cores: str) -> Load:
        """The load of `wrk`, on these cores."""
        url = f"http://127.0.0.1:{port}/search"
        return wrk(url, self.bodies, connections=connections, seconds=self.seconds, cores=cores)


def prepare(store: Store, folder: Path, seconds: float, rounds: int) -> Trial:
    """Write the bodies, and compute their exact results without the index."""
    version = store.open_champion()
    images, _ = read_sample(open_rows("fashion-mnist:test"), ASKED, 0)
    noisy = np.round(add_noise(images, version.encoder.preprocess, level=0.1), 2)
    bodies = folder / "bodies"
    bodies.write_text("".join(json.dumps({"inputs": [row], "limit": LIMIT}) + "\n" for row in noisy.tolist()))
    every = version.embeddings.at(np.arange(len(version.items)))
    scores = version.embed(noisy.astype(np.float32)) @ every.T  # (asked, items), of the metric cosine
    best = np.argsort(-scores, axis=1)[:, :LIMIT]
    return Trial(store, bodies, [[version.items.id_at(p) for p in row] for row in best.tolist()], seconds, rounds)


def recall_under_load(trial: Trial, port: int, core: int) -> float:
    """The share of the exactly nearest that is returned over HTTP while `wrk` keeps the server busy."""
    loading = threading.Thread(target=trial.load, args=(port, 16, str(core)))
    loading.start()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: ask(port, body), trial.lines()))
    loading.join()
    found = [{hit["id"] for hit in answer["results"][0]["hits"]} for answer in answers]
    return float(np.mean([len(ids & set(wanted)) / LIMIT for ids, wanted in zip(found, trial.nearest, strict=True)]))


@contextlib.contextmanager
def all_served(trial: Trial, core: int) -> Iterator[dict[str, int]]:
    """The ports of `ours`, plain, echo and empty, each of which has answered correctly; a failed peer has no port."""
    ports = {name: free_port() for name in ("ours", "plain", "echo", "empty")}
    failed: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            app = ["benchmarks.service_apps", name, str(trial.store.folder), str(port)]
            stack.enter_context(running_server(lookalike(trial.store, port) if name == "ours" else app, [core]))
            if name == "ours":
                check(name, port, trial)
            elif not attempt(name, partial(check, name, port, trial)):
                failed.append(name)
        yield {name: port for name, port in ports.items() if name not in failed}


def check(name: str, port: int, trial: Trial) -> bool:
    """Return True. Raises RuntimeError if there is no answer, or if a search misses most of the nearest."""
    answer = ask(port, trial.lines()[0])
    if name == "empty":
        return True
    if name == "echo":
        right = answer == {"values": 784}
    else:
        hits = answer["results"][0]["hits"]
        right = len({hit["id"] for hit in hits} & set(trial.nearest[0])) >= LIMIT - 2
    if not right:
        raise RuntimeError(f"{name} answers {answer}")
    return True


def compare_with_litserve(trial: Trial, rows: list[Row]) -> str:
    """Ours and LitServe at its best, on both cores; returns LitServe's batch settings."""
    both = two_cores()
    cores, notes = ",".join(map(str, both)), []
    for connections in CONNECTIONS[1:]:
        loads = {setting: litserve_load(trial, setting, connections, short=True) for setting in BATCHING}
        rates = {setting: load.rate for setting, load in loads.items() if load}
        best = max(rates, key=rates.__getitem__, default=BATCHING[0])
        notes.append(f"max_batch_size {best[0]}, batch_timeout {best[1] * 1e3:g} ms at {connections} connections")
        port = free_port()
        with running_server(lookalike(trial.store, port), both):
            ask(port, trial.lines()[0])
            ours = alternated({"ours": partial(trial.load, port, connections, cores)}, trial.rounds)["ours"]
        theirs = litserve_load(trial, best, connections) if rates else None
        rows += versus(f"{connections} connections, both cores", "LitServe", ours, theirs, Bar("ours / peer", ">=", 6))
    return f"LitServe's best: {'; '.join(notes)}."


def litserve_load(trial: Trial, setting: tuple[int, float], connections: int, *, short: bool = False) -> Load | None:
    """LitServe's load with these batch settings; None if it fails."""
    name = f"LitServe, batches of {setting[0]} in {setting[1]:g} s, {connections} connections"
    return attempt(name, lambda: _litserve_load(trial, setting, connections, 1 if short else trial.rounds))


def _litserve_load(trial: Trial, setting: tuple[int, float], connections: int, rounds: int) -> Load | None:
    port, both = free_port(), two_cores()
    arguments = ["benchmarks.service_litserve", str(trial.store.folder), str(port), *map(str, setting)]
    with running_server(arguments, both):
        check("LitServe", port, trial)
        loads = {"LitServe": partial(trial.load, port, connections, ",".join(map(str, both)))}
        return alternated(loads, rounds).get("LitServe")


def versus(where: str, peer: str, ours: Load, theirs: Load | None, bar: Bar, *, floor: bool = False) -> list[Row]:
    """Rows of the report: requests per second, and the quantiles in milliseconds; without the peer's if it failed."""

    def line(name: str, unit: str, field: str, bar: Bar | None = None) -> Row:
        mine: float = getattr(ours, field)
        other: float | None = getattr(theirs, field, None)
        claim = f"{name}, {where}, against {peer}{'' if theirs else ', which failed'}"
        return (
            row(claim, unit, ours=mine, floor=other, bar=bar)
            if floor
            else row(claim, unit, ours=mine, peer=other, bar=bar)
        )

    alone = Bar("ours / floor", "<=", 2) if floor and where.startswith("1 ") else None
    return [
        line("POST /search", "requests/s", "rate", bar),
        line("p50", "ms", "p50", alone),
        line("p99", "ms", "p99"),
        line("p99.9", "ms", "p999"),
    ]


def on_one_core(trial: Trial, rows: list[Row]) -> None:
    """Ours, the two endpoints and the empty handler, one core each; and the recall."""
    server_core, client_core = two_cores()
    with all_served(trial, server_core) as ports:
        recall = recall_under_load(trial, ports["ours"], client_core)
        rows.append(row("recall@10 over HTTP, under load", "", ours=recall, bar=Bar("ours", ">=", 0.95)))
        for connections in CONNECTIONS:
            loads = {name: partial(trial.load, port, connections, str(client_core)) for name, port in ports.items()}
            found = alternated(loads, trial.rounds)
            where = f"{connections} connection{'s' * (connections > 1)}"
            ours = found["ours"]
            rows += versus(
                where, "an empty handler", ours, found.get("empty"), Bar("ours / floor", ">=", 0.5), floor=True
            )
            rows += versus(where, "a plain def endpoint", ours, found.get("plain"), Bar("ours / peer", ">=", 4))
            rows += versus(where, "pydantic alone", ours, found.get("echo"), Bar("ours / peer", ">=", 1.5))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--store", type=Path, help="a store with a promoted version of fashion-mnist [default: a new store]"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of each load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=["one-core", "litserve"])
    options = parser.parse_args()
    rows: list[Row] = []
    note = ""
    with tempfile.TemporaryDirectory() as name:
        trial = prepare(store_of(options.store, Path(name)), Path(name), options.seconds, options.rounds)
        if options.only != "litserve":
            on_one_core(trial, rows)
        if options.only != "one-core":
            note = compare_with_litserve(trial, rows)
    report("service", rows, note)


if __name__ == "__main__":
    main()
