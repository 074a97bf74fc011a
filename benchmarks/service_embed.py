"""How many rows per second does `POST /embed` answer, 4,096 of 784 numbers in a call, as .npy in both directions?

ours    `lookalike serve`, with one client and with two at a time
floor   the encoder called directly on the same rows in memory, with the same number of threads, on the same core

On the CPU the server, and the encoder called directly, have one thread on one core, and the client has the other core;
they have work in turns. If there is a CUDA device, the same follows with the encoder there, and the ratio to the
CPU. The first answer is compared with the version's own embeddings.
"""

import argparse
import io
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray

from benchmarks.report import Bar, Row, alternate, medians, report, row
from benchmarks.service_client import Reply, Shot, Traffic, posted, to_npy
from benchmarks.service_process import ask, free_port, lookalike, running_server, store_of, two_cores
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.choices import DeviceName
from lookalike.training.rows import open_rows, read_sample

__all__ = ["main"]

ROWS = 4_096
SECONDS = 5.0
ROUNDS = 5
CLIENTS = (1, 2)
NPY = "application/x-npy"
_encoders: list[Encoder] = []
"""The encoder of the process that calls it directly."""


def pick_rows() -> NDArray[np.float32]:
    """(4096, 784), test images."""
    return read_sample(open_rows("fashion-mnist:test"), ROWS, 0)[0].astype(np.float32)


def prepare(store: Path, device: DeviceName, core: int) -> None:
    """Start the process that calls the encoder directly."""
    if device == "cpu":
        os.sched_setaffinity(0, {core})
        torch.set_num_threads(1)
    _encoders.append(Store(store).open_champion(device).autoencoder)


def directly(rows: NDArray[np.float32], seconds: float) -> float:
    """Rows per second over about `seconds` seconds."""
    encoder = _encoders[0]
    encoder.encode(rows)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        count += len(encoder.encode(rows))
    return count / (time.perf_counter() - began)


def over_http(port: int, shot: Shot, clients: int, seconds: float) -> float:
    """Rows per second; raises if an answer is not a 200."""
    figures = uvloop.run(Traffic(port, [shot], clients).run(seconds=seconds))
    if figures.wrong:
        raise RuntimeError(str(figures.wrong))
    return figures.rate * ROWS


def check_embeddings(reply: Reply, wanted: NDArray[np.float32]) -> str:
    """Check that the answer equals the version's embeddings."""
    if reply.status != 200:
        return f"status {reply.status}"
    embeddings = np.load(io.BytesIO(reply.body), allow_pickle=False)
    return "" if np.allclose(embeddings, wanted, atol=1e-3) else "other embeddings"


def in_process(pool: Executor, rows: NDArray[np.float32], seconds: float) -> float:
    return pool.submit(directly, rows, seconds).result()


def compare(store: Store, device: DeviceName, options: argparse.Namespace) -> dict[str, float]:
    """Rows per second on that device: ours by the number of clients, and the encoder alone."""
    server_core, client_core = two_cores()
    rows, port = pick_rows(), free_port()
    wanted = store.open_champion().embed(rows)
    body = posted("/embed", to_npy(rows), NPY, NPY)
    alone = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), prepare, (store.folder, device, server_core))
    cores = [server_core] if device == "cpu" else sorted(os.sched_getaffinity(0))
    threads = {"LOOKALIKE_THREADS": "1"} if device == "cpu" else {}
    with alone as pool, running_server(lookalike(store, port), cores, LOOKALIKE_DEVICE=device, **threads):
        pool.submit(directly, rows, 0.1).result()
        ask(port, '{"ids": ["0"]}')
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {client_core} if device == "cpu" else everywhere)
        first = uvloop.run(Traffic(port, [Shot(body, partial(check_embeddings, wanted=wanted))], 1).run(requests=1))
        if first.wrong:
            raise RuntimeError(str(first.wrong))
        segments = {f"{n}": partial(over_http, port, Shot(body), n, options.seconds) for n in CLIENTS}
        segments["floor"] = partial(in_process, pool, rows, options.seconds)
        found = medians(alternate(segments, options.rounds))
        os.sched_setaffinity(0, everywhere)
    return found


def report_rows(found: dict[DeviceName, dict[str, float]]) -> list[Row]:
    """The rows of the report."""
    bar = Bar("ours / floor", ">=", 0.8)
    rows = [
        row(
            f"POST /embed of {ROWS:,} rows, {device}, {number} client{'s' * (number > 1)}",
            "rows/s",
            ours=rates[str(number)],
            floor=rates["floor"],
            bar=bar,
        )
        for device, rates in found.items()
        for number in CLIENTS
    ]
    if "cuda" in found:
        rows.append(row("the same, cuda; peer: cpu", "rows/s", ours=found["cuda"]["2"], peer=found["cpu"]["2"]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--store", type=Path, help="a store with a promoted version of fashion-mnist [default: a new store]"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of each load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    devices: list[DeviceName] = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory() as name:
        store = store_of(options.store, Path(name))
        report("service_embed", report_rows({device: compare(store, device, options) for device in devices}))


if __name__ == "__main__":
    main()
