"""Does the service last? A million requests at 70 % of the peak: no errors, and no growth.

ours    searches by rows and by ids, and embeddings, as JSON and as .npy, from 64 connections, at 70 % of the rate of 64
        connections that send without a pause; anonymous memory, open files and threads at the end
floor   the same figures after a tenth of the requests

The server has one core, the client the other. A latency counts from when the request was due.
"""

import argparse
import asyncio
import gc
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import uvloop

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_client import Figures, Shot, Traffic, posted, to_npy
from benchmarks.service_process import (
    Footprint,
    ask,
    footprint,
    free_port,
    lookalike,
    running_server,
    store_of,
    two_cores,
)
from lookalike.index.versions.store import Store
from lookalike.training.rows import open_rows, read_sample

__all__ = ["main", "mixed_shots"]

REQUESTS = 1_000_000
SHARE = 0.7
PEAK_SECONDS = 10.0
CONNECTIONS = 64
QUERIES = 50
NPY = "application/x-npy"


@dataclass(frozen=True)
class Soaked:
    """The figures of the client, and the server's footprint after a tenth and at the end."""

    figures: Figures
    early: Footprint
    late: Footprint


def mixed_shots(store: Store) -> list[Shot]:
    """Four kinds of call, one row each."""
    version = store.open_champion()
    images, _ = read_sample(open_rows("fashion-mnist:test"), QUERIES, 0)
    places = np.random.default_rng(0).integers(0, len(version.items), QUERIES).tolist()
    shots = []
    for image, place in zip(images.astype(np.float32), places, strict=True):
        inputs = [image.astype(int).tolist()]
        shots += [
            Shot(posted("/search", orjson.dumps({"inputs": inputs}))),
            Shot(posted("/search", orjson.dumps({"ids": [version.items.id_at(place)]}))),
            Shot(posted("/embed", orjson.dumps({"inputs": inputs}))),
            Shot(posted("/embed", to_npy(image[None]), NPY, NPY)),
        ]
    return shots


async def drive(port: int, pid: int, shots: list[Shot], requests: int, peak_seconds: float) -> tuple[float, Soaked]:
    """Requests per second at the peak, and the figures at 70 % of it."""
    gc.freeze()
    peak = (await Traffic(port, shots, CONNECTIONS).run(seconds=peak_seconds)).rate
    traffic = Traffic(port, shots, CONNECTIONS, rate=SHARE * peak)
    running = asyncio.create_task(traffic.run(requests=requests))
    held = []
    for share in (0.1, 0.99):  # before the very end, when the connections close
        while len(traffic.figures.latencies) < share * requests:
            await asyncio.sleep(0.05)
        held.append(footprint(pid))
    return peak, Soaked(await running, *held)


def report_rows(peak: float, seen: Soaked) -> list[Row]:
    """The rows of the report."""
    figures, early, late = seen.figures, seen.early, seen.late
    flat = Bar("ours / floor", "<=", 1)
    return [
        row("requests", "", ours=len(figures.latencies)),
        row("requests a second at the peak", "", ours=peak),
        row("requests a second", "", ours=figures.rate),
        row("errors", "requests", ours=figures.wrong.total(), bar=Bar("ours", "<=", 0)),
        *(row(f"p{p:g}", "ms", ours=figures.milliseconds(p)) for p in (50.0, 99.0, 99.9)),
        row(
            "memory at the end; floor: after a tenth",
            "MB",
            ours=late.anonymous / 1e6,
            floor=early.anonymous / 1e6,
            bar=Bar("ours / floor", "<=", 1.02),
        ),
        row("open files at the end; floor: after a tenth", "", ours=late.files, floor=early.files, bar=flat),
        row("threads at the end; floor: after a tenth", "", ours=late.threads, floor=early.threads, bar=flat),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--store", type=Path, help="a store with a promoted version of fashion-mnist [default: a new store]"
    )
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seconds", type=float, default=PEAK_SECONDS, help="the duration of the search for the peak")
    options = parser.parse_args()
    server_core, client_core = two_cores()
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        store = store_of(options.store, Path(name))
        shots = mixed_shots(store)
        os.sched_setaffinity(0, {client_core})
        with running_server(lookalike(store, port), [server_core]) as process:
            ask(port, '{"ids": ["0"]}')
            peak, seen = uvloop.run(drive(port, process.pid, shots, options.requests, options.seconds))
    report(
        "soak", report_rows(peak, seen), ", ".join(f"{count} x {what}" for what, count in seen.figures.wrong.items())
    )


if __name__ == "__main__":
    main()
