"""What does a GPU gain: the encoder, bulk embedding, the service, training? And does it find the same as a CPU?

ours    `--device cuda`, one GPU
peer    the same on the CPU with all its cores; if the claim says so, the same without captured graphs
floor   for the encoder, its layers on rows that are already on the GPU; for the service, the encoder called directly
        on CUDA by one thread, on the same rows in memory

The encoder is the default one of 784-512-256-32, trained here for some epochs; the index is HNSW. FAISS is the CPU
build, so with either device a search runs on the CPU. Server and clients share all cores; `/embed` sends 4,096 rows of
float32 as .npy in both directions, `/search` one row of 784 numbers as JSON.
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray

from benchmarks.report import Bar, Row, alternate, medians, report, row, seconds
from benchmarks.service_client import Shot, Traffic, posted, to_npy
from benchmarks.service_process import free_port, lookalike, running_server, wait_until_ready
from lookalike.index.ann.recall import recalls
from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.build import build
from lookalike.index.versions.embed import embed_to_npy
from lookalike.index.versions.store import Store
from lookalike.service.serving.preflight import prepare
from lookalike.training.artifact.cuda import full_precision
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.choices import DeviceName
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import Rows, open_rows, read_sample

__all__ = ["main"]

FEW = (1, 16, 64)
MANY = 4_096
QUERIES = 2_000
WORKERS = (1, 6)
CLIENTS = 12
CONNECTIONS = 64
NPY = "application/x-npy"
Rows2D = NDArray[np.float32]
Rates = dict[str, float]


def rate(step: Callable[[], object], count: int, least: float) -> float:
    """Rows per second of a step over `count` rows, called repeatedly for `seconds` seconds."""
    step()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < least:
        step()
        calls += 1
    return calls * count / (time.perf_counter() - began)


def trained(rows: Rows, folder: Path, device: DeviceName, epochs: int) -> float:
    """The seconds of the last epoch; the run is in `folder`."""
    config = load_config(overrides=[f"fit.epochs={epochs}", f"fit.device={device}"])
    return train(rows, config, folder).state.history[-1].seconds


def on_device(encoder: Encoder, rows: Rows2D) -> Callable[[], None]:
    """The layers alone, on rows that are already on the device."""
    there = torch.from_numpy(rows).to(encoder.device)

    def step() -> None:
        with torch.inference_mode(), full_precision(encoder.device):
            encoder.encoder(encoder.preprocess.apply(there))
        if encoder.device.type == "cuda":
            torch.cuda.synchronize(encoder.device)

    return step


def measure_encoder(store: Store, device: DeviceName, rows: Rows2D, options: argparse.Namespace) -> list[Row]:
    """Measure by the number of rows in a call; and the share of ten neighbors that both devices find."""
    cpu, plain, warm = (store.open_champion(name) for name in ("cpu", device, device))
    prepare(Collection(warm))
    lines = []
    for count in (*FEW, MANY):
        part = rows[:count]
        each = {"cpu": cpu, "plain": plain, "graphs": warm}
        steps: dict[str, Callable[[], object]] = {name: partial(one.encoder.encode, part) for name, one in each.items()}
        steps["floor"] = on_device(warm.autoencoder, part)
        segments = {name: partial(rate, step, count, options.seconds / 2) for name, step in steps.items()}
        found = medians(alternate(segments, options.rounds))
        claim = f"encode, {count:,} row{'s' * (count > 1)} a call"
        lines.append(row(claim, "rows/s", ours=found["graphs"], peer=found["cpu"], floor=found["floor"]))
        if count in FEW:
            claim = f"{claim}, a graph; peer: without"
            lines.append(
                row(claim, "rows/s", ours=found["graphs"], peer=found["plain"], bar=Bar("ours / peer", ">=", 1))
            )
    wanted, there = (one.index.search(one.embed(rows[:QUERIES]), 10)[1] for one in (cpu, warm))
    shared = float(recalls(there, wanted).mean())
    return [*lines, row("of a CPU's 10 neighbours, found too", "", ours=shared, bar=Bar("ours", ">=", 0.99))]


def measure_bulk(store: Store, device: DeviceName, rows: Rows2D, folder: Path) -> Row:
    """Measure from a file to a file, as `lookalike embed` does."""
    source = folder / "bulk.npy"
    np.save(source, np.resize(rows, (25 * len(rows), rows.shape[1])))
    few = open_rows(str(source))
    encoders = {name: store.open_champion(name).encoder for name in dict.fromkeys((device, "cpu"))}
    steps = {name: partial(embed_to_npy, few, one, "cosine", folder / "out.npy") for name, one in encoders.items()}
    found = medians(alternate({name: partial(seconds, step) for name, step in steps.items()}, 2))
    return row("bulk embedding", "rows/s", ours=few.count / found[device], peer=few.count / found["cpu"])


def one_client(port: int, requests: list[bytes], connections: int, asked_seconds: float) -> float:
    """Requests per second; raises if an answer is not a 200."""
    if not connections:
        return 0.0
    figures = uvloop.run(Traffic(port, [Shot(one) for one in requests], connections).run(seconds=asked_seconds))
    if figures.wrong:
        raise RuntimeError(str(figures.wrong))
    return figures.rate


def request_rate(pool: ProcessPoolExecutor, port: int, requests: list[bytes], each: list[int], least: float) -> float:
    """Requests per second by clients with `connections` connections each."""
    coming = [pool.submit(one_client, port, requests, connections, least) for connections in each]
    return sum(one.result() for one in coming)


@contextlib.contextmanager
def serving(store: Store, device: DeviceName, workers: int) -> Iterator[int]:
    """The port of a service that is ready, which means that the device agrees with the CPU."""
    port, cores = free_port(), sorted(os.sched_getaffinity(0))
    wanted = {
        "LOOKALIKE_DEVICE": device,
        "LOOKALIKE_WORKERS": str(workers),
        "LOOKALIKE_MAX_WAITING": str(CLIENTS * MANY),
    }
    with running_server(lookalike(store, port), cores, **wanted) as process:
        wait_until_ready(port, process)
        yield port


def measure_service(store: Store, device: DeviceName, rows: Rows2D, options: argparse.Namespace) -> list[Row]:
    """Measure both calls, on both devices, with one worker and with several."""
    embed = [posted("/embed", to_npy(rows[:MANY]), NPY, NPY)]
    search = [posted("/search", json.dumps({"inputs": [one], "limit": 10}).encode()) for one in rows[:64].tolist()]
    directly = partial(rate, partial(store.open_champion(device).encoder.encode, rows[:MANY]), MANY, options.seconds)
    found: dict[tuple[str, int], Rates] = {}
    with ProcessPoolExecutor(CLIENTS, get_context("spawn")) as pool:
        request_rate(pool, 0, [], [0] * CLIENTS, 0.0)
        shares = [CONNECTIONS // 4] * 4
        for name in dict.fromkeys((device, "cpu")):
            for workers in WORKERS:
                with serving(store, name, workers) as port:
                    clients = {"1": [1], "2": [1] * 2, "all": [1] * CLIENTS}
                    loads: dict[str, Callable[[], float]] = {
                        number: partial(request_rate, pool, port, embed, each, options.seconds)
                        for number, each in clients.items()
                    }
                    loads["search"] = partial(request_rate, pool, port, search, shares, options.seconds)
                    loads["floor"] = directly
                    found[name, workers] = medians(alternate(loads, options.rounds))
    return [line for workers in WORKERS for line in report_rows(found[device, workers], found["cpu", workers], workers)]


def report_rows(ours: Rates, peers: Rates, workers: int) -> list[Row]:
    """The lines of the report for this number of workers."""
    by = f"{workers} worker{'s' * (workers > 1)}"
    lines = []
    for number, name in {"1": "1 client", "2": "2 clients", "all": f"{CLIENTS} clients"}.items():
        rates = {"ours": ours[number] * MANY, "peer": peers[number] * MANY, "floor": ours["floor"]}
        bar = Bar("ours / floor", ">=", 0.8)
        lines.append(row(f"POST /embed of {MANY:,} rows, {by}, {name}", "rows/s", **rates, bar=bar))
    claim = f"POST /search, {by}, {CONNECTIONS} connections"
    return [*lines, row(claim, "requests/s", ours=ours["search"], peer=peers["search"])]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="fashion-mnist", help="rows of any source, 784 wide for comparable figures")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries the script itself")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="the duration of each load")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks.cuda: expected a CUDA device, found none")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = open_rows(options.data)
        rows = read_sample(data, MANY, 0)[0].astype(np.float32)
        times = {
            one: trained(data, folder / one, one, options.epochs) for one in dict.fromkeys((options.device, "cpu"))
        }
        store = Store(folder / "store")
        store.promote(build(data, folder / options.device, store, target=Target(key="HNSW32"), device=options.device))
        lines = measure_encoder(store, options.device, rows, options)
        lines.append(measure_bulk(store, options.device, rows, folder))
        lines.append(row("an epoch of training", "s", ours=times[options.device], peer=times["cpu"]))
        lines += measure_service(store, options.device, rows, options)
    report("cuda", lines, "Searching is FAISS's for CPUs on either device.")


if __name__ == "__main__":
    main()
