"""Does bulk embedding cost more than its matrix products, and does memory grow with the rows?

ours    `index.versions.embedding_cache.embed_with_cache`, the step of `lookalike build` that embeds: rows are read from
        a float32 .npy, checked, hashed, preprocessed, encoded, and written, with ids and payloads
floor   the encoder's matrix products alone, by torch's `@`, on one block of rows in memory, with the same number of
        threads. The encoder itself uses oneDNN's products, which may be faster: a second row reports these

The encoder is the shipped one of 784-512-256-32. The peak is the anonymous memory of a process that only embeds: mapped
files do not count, because the system can drop them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from benchmarks.memory import ROW_BYTES, own_bytes, write_encoder, write_rows
from benchmarks.report import Bar, Row, alternate, medians, report, row, seconds
from lookalike.index.items.previews import PreviewWriter
from lookalike.index.items.table import ItemWriter
from lookalike.index.versions.embedding_cache import embed_with_cache
from lookalike.index.versions.item_writers import ItemWriters
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.rows import open_rows

__all__ = ["anonymous_peak", "main"]

FEW, MANY = 100_000, 1_000_000
ROUNDS = 3
BLOCK = 8_192
THREADS = 2
POLL_SECONDS = 0.02


@contextmanager
def anonymous_peak() -> Iterator[list[int]]:
    """Measure the peak of this process's anonymous memory, in bytes, into the first entry of the yielded list."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            peak[0] = max(peak[0], own_bytes("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def embed_seconds(rows: Path, encoder: Encoder) -> float:
    """Seconds to embed all rows of a file."""
    source = open_rows(str(rows))
    with tempfile.TemporaryDirectory(dir=rows.parent) as name:
        folder = Path(name)
        writers = ItemWriters(ItemWriter(folder, source.name), PreviewWriter(folder))
        return seconds(lambda: embed_with_cache(source, encoder, "cosine", folder, writers))


def products(encoder: Encoder, count: int, *, ours: bool = False) -> float:
    """Seconds of the matrix products for `count` rows, by torch's `@` or by the encoder's own layers."""
    layers = [layer for layer in encoder.encoder if isinstance(layer, nn.Linear)]
    block = torch.randn(BLOCK, encoder.width)

    def multiply() -> None:
        with torch.inference_mode():
            for _ in range(0, count, BLOCK):
                values = block
                for layer in layers:
                    values = layer(values) if ours else values @ layer.weight.T

    return seconds(multiply) * count / (BLOCK * -(-count // BLOCK))


def run_job(rows: Path, encoder: Path) -> None:
    """The job of the child process: embed, and print the peak and the time as JSON."""
    torch.set_num_threads(THREADS)
    loaded = load_encoder(encoder)
    with anonymous_peak() as peak:
        taken = embed_seconds(rows, loaded)
    print(json.dumps({"peak": peak[0], "seconds": taken}))


def child(rows: Path, encoder: Path) -> dict[str, float]:
    """Run the job in a separate process."""
    command = [sys.executable, "-m", "benchmarks.embedding", "--job", str(rows), str(encoder)]
    figures: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return figures


def compare() -> list[Row]:
    """The rows of the report."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many, at = folder / "few.npy", folder / "many.npy", folder / "encoder"
        write_encoder(at)
        encoder = load_encoder(at)
        count = write_rows(few, FEW * ROW_BYTES / 1e9)
        taken = medians(
            alternate(
                {
                    "ours": lambda: embed_seconds(few, encoder),
                    "floor": lambda: products(encoder, count),
                    "oneDNN": lambda: products(encoder, count, ours=True),
                },
                ROUNDS,
            )
        )
        write_rows(many, MANY * ROW_BYTES / 1e9)
        peaks = [child(rows, at)["peak"] / 1e9 for rows in (few, many)]
    rates = {name: count / value for name, value in taken.items()}
    return [
        row("bulk embedding", "rows/s", ours=rates["ours"], floor=rates["floor"], bar=Bar("ours / floor", ">=", 0.85)),
        row("bulk embedding, beside oneDNN's products", "rows/s", ours=rates["ours"], floor=rates["oneDNN"]),
        row(
            f"peak at {MANY:,} rows (ours) and at {FEW:,} (peer)",
            "GB",
            ours=peaks[1],
            peer=peaks[0],
            bar=Bar("ours / peer", "<=", 1.05),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--job", nargs=2, metavar=("ROWS", "ENCODER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(*map(Path, options.job))
    else:
        report("embedding", compare())


if __name__ == "__main__":
    main()
