"""How many items per second can be written durably, and do searches slow down while they are written?

ours    `lookalike serve`: rows of 784 numbers as JSON over HTTP, which it also encodes
peers   Chroma's server over HTTP, PostgreSQL with pgvector over its socket, and Qdrant's engine in the process of its
        clients: the same items and queries as embeddings, which were computed beforehand
floor   how often per second the disk confirms that 4 KiB are written (fdatasync), one call at a time

60,000 images of Fashion-MNIST, embedded by an autoencoder; the items that are put are other images, under new ids. Each
is measured under two loads of 100 searches per second: one without writes, and one while 1,000 items per second arrive
in batches of 100. The latency counts from when a search was due, and the recall is of the ten nearest of all items that
existed at that moment. Then items are sent from one connection, each call after the acknowledgement of the last: one by
one, in batches of 100, and one by one from 16 connections. Server and clients share two cores.

The parts can run in separate calls: `--parts FOLDER` keeps the figures of each part, and the report contains all parts
in the folder.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.items_doors import PEERS, Place, ours
from benchmarks.items_load import Arrived, Material, Searched, arrivals, recall, searches, together, write_all
from benchmarks.report import Bar, Row, report, row
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.evaluation.judge import add_noise
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample

__all__ = ["main"]

OURS = "ours"
QUERIES = 200
SEARCHES, ITEMS = 100.0, 1_000.0
"""Per second."""
BATCH = 100
MANY = 16
SECONDS = 10.0
MOST = 4_000
"""The most single items that are prepared before the clock starts."""
SYNCED = 4_096


def store_for(existing: Path | None, folder: Path) -> Store:
    """The store that was given, or a new store of 64 dimensions in `folder`."""
    if existing:
        return Store(existing)
    rows = open_rows("fashion-mnist")
    train(rows, load_config(overrides=["fit.epochs=5", "model.latent_dim=64"]), folder / "run")
    store = Store(folder / "store")
    store.promote(build(rows, folder / "run", store))
    return store


def make_material(store: Store) -> Material:
    """The store's items by the numbers that are their ids, other images to put, and noisy images as queries."""
    version = store.open_champion()
    places = version.items.positions([str(number) for number in range(len(version.items))])
    images, _ = read_sample(open_rows("fashion-mnist:test"), 10_000, 0)
    queries = np.round(add_noise(images[:QUERIES], version.encoder.preprocess, level=0.1), 2).astype(np.float32)
    return Material(version.embeddings.at(places), images, version.embed(images), queries, version.embed(queries))


def measure(place: Place, material: Material, seconds: float) -> dict[str, float]:
    """All figures of one system."""
    run = partial(together, processes=place.processes)
    look = partial(searches, place.opener, QUERIES, SEARCHES, seconds)
    quiet: Searched = run([look])[0]
    busy: Searched
    arrived: Arrived
    busy, arrived = run([look, partial(arrivals, place.opener, BATCH, ITEMS, seconds)])
    first = 10 * len(material.rows)

    def put(connections: int, batch: int, most: int) -> float:
        nonlocal first
        works = []
        for _ in range(connections):
            works.append(partial(write_all, place.opener, first, batch, most, seconds / 2))
            first += batch * most
        done: list[Arrived] = together(works, processes=False)
        return sum(each.count[-1] for each in done) / (max(d.done[-1] for d in done) - min(d.sent[0] for d in done))

    return {
        "quiet p50": quiet.milliseconds(50),
        "quiet p99": quiet.milliseconds(99),
        "quiet recall": recall(material, quiet),
        "busy p50": busy.milliseconds(50),
        "busy p99": busy.milliseconds(99),
        "busy recall": recall(material, busy, arrived),
        "arrived": arrived.rate,
        "singly": put(1, 1, MOST),
        "batches": put(1, BATCH, MOST // BATCH),
        "together": put(MANY, 1, MOST // 4),
        "sync_rate": sync_rate(2.0),
    }


def sync_rate(seconds: float) -> float:
    """How many times per second a block is written and on disk."""
    with tempfile.TemporaryFile() as file:
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            os.write(file.fileno(), b"x" * SYNCED)
            os.fdatasync(file.fileno())
            count += 1
    return count / seconds


def part(name: str, store: Store, seconds: float, folder: Path) -> dict[str, Any]:
    """Serve one system and measure it; returns the figures and the note about its settings."""
    material, at = make_material(store), folder / "material.npz"
    material.save(at)
    copy = Store(Path(shutil.copytree(store.folder, folder / "copy")))
    with (ours if name == OURS else PEERS[name])(copy, at, folder) as place:
        return {"note": place.note, "figures": measure(place, material, seconds)}


def report_rows(parts: dict[str, Any]) -> list[Row]:
    """The rows of the report: ours alone, and compared with each peer."""
    mine = parts[OURS]["figures"]
    rows = [
        row(
            "search p99 while items arrive; floor: while none do", "ms", ours=mine["busy p99"], floor=mine["quiet p99"]
        ),
        row("recall@10 while items arrive", "", ours=mine["busy recall"], bar=Bar("ours", ">=", 0.95)),
        row("items, one by one; floor: fdatasync", "items/s", ours=mine["singly"], floor=mine["sync_rate"]),
    ]
    claims = {
        "items, one by one": ("singly", "items/s"),
        "items, in batches of 100": ("batches", "items/s"),
        "items, one by one, 16 connections": ("together", "items/s"),
        "items that arrive beside searches, of 1,000": ("arrived", "items/s"),
        "search p99 while items arrive": ("busy p99", "ms"),
        "search p50 while items arrive": ("busy p50", "ms"),
        "search p99 while none do": ("quiet p99", "ms"),
        "recall@10 while items arrive": ("busy recall", ""),
        "recall@10 while none do": ("quiet recall", ""),
    }
    for name in [each for each in parts if each != OURS]:
        theirs = parts[name]["figures"]
        for claim, (figure, unit) in claims.items():
            rows.append(row(f"{claim}, against {name}", unit, ours=mine[figure], peer=theirs[figure]))
    return rows


def main() -> None:
    """Measure, print, write."""
    names = [OURS, *PEERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)} [default: all]")
    parser.add_argument("--store", type=Path, help="a store with a promoted version of fashion-mnist; it is copied")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of each load of searches")
    parser.add_argument("--parts", type=Path, help="a folder that keeps the figures of each part between calls")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        parts = options.parts or Path(name) / "parts"
        parts.mkdir(parents=True, exist_ok=True)
        store = store_for(options.store, Path(name))
        for chosen in options.names or names:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                figures = part(chosen, store, options.seconds, Path(folder))
            (parts / f"{chosen}.json").write_text(json.dumps(figures, indent=1))
        known = {
            each: json.loads((parts / f"{each}.json").read_text())
            for each in names
            if (parts / f"{each}.json").exists()
        }
    if OURS in known:
        notes = "\n".join(f"{each}: {figures['note']}." for each, figures in known.items())
        report("items", report_rows(known), notes)


if __name__ == "__main__":
    main()
