"""From 10^5 to 10^7 items on one machine: how long, how large, how fast, and how accurate?

The rows are Fashion-MNIST's 60,000 training images, and corrupted copies of them until there are enough: moved by up
to two pixels, darker or lighter by up to a fifth, and under Gaussian noise of sigma 0.1 of the range. They are written
once as uint8 .npy and built by `index.versions.build`, as `lookalike build` does, with the shipped encoder of 32
dimensions. The queries are 1,000 test images, corrupted the same way, and their neighbors are known by exact search.

bytes an item   the index (vectors, graph and positions), the text of the ids, and their order
peak memory     the highest anonymous memory of the building process: memory mapped from files can be dropped. Beyond
                the index means without the index itself, which is built in memory
tuner           its share of the time of the build
filters         recall@10 of `index.versions.searching.among` against exact search among the allowed items: shares of
                the items drawn by chance, and the tenth at one end of the first dimension, far from most queries
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from benchmarks.embedding import anonymous_peak
from benchmarks.report import Bar, Row, report, row, seconds
from lookalike.index.ann.recall import RecallBenchmark, recalls
from lookalike.index.ann.target import Target
from lookalike.index.items.table import ITEMS
from lookalike.index.versions.build import build
from lookalike.index.versions.searching import among, rank
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample

__all__ = ["main"]

SIZES = (100_000, 1_000_000, 10_000_000)
SIDE = 28
MOVED = 2
LIGHTER = 0.2
SIGMA = 0.1
RECALL = 0.95
ASKED = 0.97
"""The target for held-out rows, which have corrupted copies of the same image among the items; the queries do not."""
BYTES = 64
ID_BYTES = 16
"""An id of eight digits with its offset in the table, and its position in the order."""
QUERIES = 1_000
FILTERED = 200
"""The number of queries with a filter."""
SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
EDGE = 0.1
QUESTION_SEED = 1 << 16


def corrupted(images: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
    """Map (n, 784) to (n, 784): moved, darker or lighter, and noisy."""
    random = torch.Generator().manual_seed(seed)
    pictures = torch.from_numpy(images).reshape(-1, SIDE, SIDE)
    moves = torch.randint(-MOVED, MOVED + 1, (len(pictures), 2), generator=random)
    rows = (torch.arange(SIDE) - moves[:, :1]) % SIDE  # (n, 28)
    columns = (torch.arange(SIDE) - moves[:, 1:]) % SIDE
    moved = pictures[torch.arange(len(pictures))[:, None, None], rows[:, :, None], columns[:, None, :]]
    light = 1 + LIGHTER * (2 * torch.rand(len(pictures), 1, 1, generator=random) - 1)
    noisy = moved * light + SIGMA * 255 * torch.randn(moved.shape, generator=random)
    return noisy.clamp(0, 255).to(torch.uint8).reshape(len(pictures), -1).numpy()


def write_rows(path: Path, count: int, images: NDArray[np.float32]) -> None:
    """Write the images, and corrupted copies of them until there are `count`."""
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"shape": (count, SIDE * SIDE), "fortran_order": False, "descr": "|u1"})
        for copy, first in enumerate(range(0, count, len(images))):
            block = images.astype(np.uint8) if copy == 0 else corrupted(images, copy)
            file.write(block[: count - first].tobytes())


def run_build(rows: Path, run: Path, out: Path) -> None:
    """The job of the child process: build and promote; prints its peak and its times as JSON."""
    source, store = open_rows(str(rows)), Store(out)
    target = Target(ASKED, memory=(BYTES - ID_BYTES) * source.count)
    with anonymous_peak() as peak:
        took = seconds(lambda: build(source, run, store, target=target, device="cpu"))
    store.promote(1)
    print(json.dumps({"peak": peak[0], "seconds": took}))


def measure(count: int, run: Path, images: NDArray[np.float32], questions: NDArray[np.float32]) -> dict[str, float]:
    """Build `count` items in a separate process, open the version, and search it."""
    with tempfile.TemporaryDirectory(dir=run.parent) as name:
        folder = Path(name)
        write_rows(folder / "rows.npy", count, images)
        command = [sys.executable, "-m", "benchmarks.scale", "--build", str(folder / "rows.npy"), str(run), name]
        child: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        store = Store(folder)
        time.sleep(1.1)  # files that changed a moment ago are read again
        store.open(1)
        began = time.perf_counter()
        version = store.open(1)
        opened = time.perf_counter() - began
        header = version.manifest
        queries = version.embed(questions)
        figures, _ = RecallBenchmark(version.embeddings, queries).take(version.index)
        draw = np.random.default_rng(0).random(count)
        ids = sum(len(version.items.id_at(i)) + 4 for i in range(0, count, count // 1_000)) / 1_000
        index = header.tuning.chosen.bytes / header.tuning.chosen.items
        print(count, header.index, header.tuning.reason, header.tuning.skipped, flush=True)
        filtered = {f"filter {share:.2%}": recall_among(version, queries, draw < share) for share in SHARES}
        edge = version.embeddings.at(np.arange(count))[:, 0]
        filtered["filter at one end"] = recall_among(version, queries, edge < np.quantile(edge, EDGE))
        return (
            child
            | filtered
            | {
                "bytes": index + ids + 4,
                "beyond": child["peak"] - index * count,
                "latency_us": figures.latency_us,
                "recall": figures.recall,
                "open": opened,
                "tuner": header.tuning.seconds / child["seconds"],
                "items_bytes": (version.sealed.folder / ITEMS).stat().st_size / count,
            }
        )


def recall_among(version: Version, queries: NDArray[np.float32], allowed: NDArray[np.bool_]) -> float:
    """The share of the 10 nearest allowed items that were found; there may be fewer than 10."""
    queries = queries[:FILTERED]
    _, truth = version.embeddings.nearest(queries, 10, np.flatnonzero(allowed))
    _, found = rank(version.base, queries, 10, find=among(version.index, version.embeddings, allowed))
    return float(recalls(found, truth).mean()) if truth.size else 1.0


def compare(sizes: list[int], run: Path) -> list[Row]:
    """The rows of the report."""
    if not (run / "encoder").is_dir():
        train(open_rows("fashion-mnist"), load_config(), run)
    images, _ = read_sample(rows := open_rows("fashion-mnist"), rows.count, seed=0)
    test, _ = read_sample(open_rows("fashion-mnist:test"), QUERIES, seed=0)
    questions = corrupted(test, seed=QUESTION_SEED).astype(np.float32)
    found = {size: measure(size, run, images, questions) for size in sizes}
    rows_: list[Row] = []
    least, most = found[sizes[0]], found[sizes[-1]]
    for size, figures in found.items():
        many = size > 200_000
        rows_ += [
            row(f"{size:,}: build", "s", ours=figures["seconds"]),
            row(
                f"{size:,}: tuner's share of it",
                "",
                ours=figures["tuner"],
                bar=Bar("ours", "<=", 0.15) if many else None,
            ),
            row(f"{size:,}: bytes an item", "bytes", ours=figures["bytes"], bar=Bar("ours", "<=", BYTES)),
            row(f"{size:,}: recall@10", "", ours=figures["recall"], bar=Bar("ours", ">=", RECALL)),
            row(f"{size:,}: one query", "µs", ours=figures["latency_us"]),
            row(f"{size:,}: opening", "s", ours=figures["open"], bar=Bar("ours", "<", 1)),
            *(
                row(f"{size:,}: recall@10, {name}", "", ours=value, bar=Bar("ours", ">=", RECALL))
                for name, value in figures.items()
                if name.startswith("filter")
            ),
            row(f"{size:,}: peak memory", "GB", ours=figures["peak"] / 1e9),
            row(f"{size:,}: of it beyond the index", "GB", ours=figures["beyond"] / 1e9),
        ]
    claim = f"one query, {sizes[-1]:,} (ours) against {sizes[0]:,} (peer)"
    bar = Bar("ours / peer", "<=", 4)
    return [*rows_, row(claim, "µs", ours=most["latency_us"], peer=least["latency_us"], bar=bar)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--run", type=Path, help="a run on fashion-mnist [default: a new run]")
    parser.add_argument("--build", nargs=3, metavar=("ROWS", "RUN", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        run_build(*map(Path, options.build))
        return
    with tempfile.TemporaryDirectory() as name:
        report("scale", compare(sorted(options.sizes), options.run or Path(name) / "run"))


if __name__ == "__main__":
    main()
