"""Does memory grow with the rows? 4 GB of float32 rows are embedded and built in separate processes.

Recordings in one Parquet file, of 8 million samples and of 0.5 million, are opened and cut into windows, twice, as by
the first two epochs of a training. For photos, `benchmarks.images` has the figure.

ours    the highest resident memory of a child process: VmHWM, which unlike `ru_maxrss` does not include the memory
        of the process that started it
floor   the same command on 40 MB of rows, or 0.5 million samples: the libraries, the encoder and one chunk

The rows are drawn from a 16-dimensional plane in 784 dimensions, and all differ, because equal rows are a pathological
case for any index. The encoder has its initial weights, since no figure here depends on them. `--gigabytes`
makes the run shorter; the bars apply to 4.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.lib import format as npy

from benchmarks.report import Bar, Row, report, row
from lookalike.index.versions.build import build
from lookalike.index.versions.embed import embed_to_npy
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.artifact.export import export
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import DataConfig, ModelConfig
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.rows import open_rows

__all__ = ["ROW_BYTES", "main", "own_bytes", "write_encoder", "write_rows"]

WIDTH = 784
LATENT = 32
PLANE = 16
ROW_BYTES = WIDTH * 4
BLOCK = 65_536
SMALL_GB = 0.04
FEW_SAMPLES, MANY_SAMPLES = 500_000, 8_000_000
HERTZ, RECORDING, GROUP = 50, 20_000, 100_000
"""Samples per second, in a recording, and in a row group of the file."""


def write_rows(path: Path, gigabytes: float) -> int:
    """Write an .npy of about that size, block by block; returns its number of rows."""
    count = int(gigabytes * 1e9) // ROW_BYTES
    random = np.random.default_rng(0)
    plane = random.standard_normal((PLANE, WIDTH), np.float32)
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"shape": (count, WIDTH), "fortran_order": False, "descr": "<f4"})
        for first in range(0, count, BLOCK):
            points = random.standard_normal((min(BLOCK, count - first), PLANE), np.float32)
            file.write((points @ plane).tobytes())  # (block, WIDTH)
    return count


def write_recordings(path: Path, count: int) -> Path:
    """Write recordings of three channels, with the time of each sample, row group by row group."""
    random, channels = np.random.default_rng(0), ("x", "y", "z")
    types = {"recording": pa.int64(), "time": pa.float64(), **dict.fromkeys(channels, pa.float32())}
    with pq.ParquetWriter(path, pa.schema(types)) as file:
        for first in range(0, count, GROUP):
            number = np.arange(first, min(first + GROUP, count))
            columns = {name: random.standard_normal(len(number), np.float32) for name in channels}
            times = {"recording": number // RECORDING, "time": number % RECORDING / HERTZ}
            file.write_table(pa.table({**times, **columns}, pa.schema(types)))
    return path


def write_encoder(folder: Path) -> None:
    """Write an encoder artifact of the usual shape."""
    probe = np.random.default_rng(1).standard_normal((2_000, WIDTH), np.float32)
    torch.manual_seed(0)
    model = Autoencoder((WIDTH,), LATENT, ModelConfig(batch_norm=False)).eval()
    header = {"input_shape": [WIDTH], "latent_dim": LATENT, "output": "values"}
    export(folder, model, fit_preprocessor(probe, "center"), probe=probe, header=header)


def peak_gb(job: str, rows: Path, encoder: Path) -> float:
    """Run `job` in a separate process; returns its highest resident memory in GB."""
    with tempfile.TemporaryDirectory(dir=rows.parent) as out:
        command = [sys.executable, "-m", "benchmarks.memory", "--job", job, str(rows), str(encoder), out]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(done.stdout)


def run_job(job: str, rows: Path, encoder: Path, out: Path) -> None:
    """The job of the child process; it prints its peak."""
    if job == "embed":
        embed_to_npy(open_rows(str(rows)), load_encoder(encoder), "cosine", out / "embeddings.npy")
    elif job == "build":
        build(open_rows(str(rows)), encoder, Store(out / "store"), device="cpu")
    else:
        recordings = open_rows(str(rows), DataConfig(window="2s", time="time", recording="recording"))
        for _ in range(2):
            for _chunk in recordings.chunks():
                pass
    print(own_bytes("VmHWM") / 1e9)


def own_bytes(what: str) -> int:
    """A value of /proc for this process: VmHWM, its peak resident memory, or RssAnon, its anonymous memory now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) * 1024


def compare(gigabytes: float) -> list[Row]:
    """The rows of the report; all files are deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large, encoder = folder / "small.npy", folder / "large.npy", folder / "encoder"
        write_encoder(encoder)
        write_rows(small, SMALL_GB)
        count = write_rows(large, gigabytes)
        peaks = {job: (peak_gb(job, large, encoder), peak_gb(job, small, encoder)) for job in ("embed", "build")}
        few, many = (
            peak_gb("recordings", write_recordings(folder / f"{samples}.parquet", samples), encoder)
            for samples in (FEW_SAMPLES, MANY_SAMPLES)
        )
    (embed_large, embed_small), (build_large, build_small) = peaks["embed"], peaks["build"]
    size = f"{gigabytes:g} GB, {count:,} rows"
    growth, samples = Bar("ours", "<=", 0.25), f"{MANY_SAMPLES:,} samples of recordings, beside {FEW_SAMPLES:,}"
    return [
        row(f"embedding {size}: peak", "GB", ours=embed_large, floor=embed_small),
        row(f"embedding {size}: peak above that for 40 MB", "GB", ours=embed_large - embed_small, bar=growth),
        row(f"building {size}: peak", "GB", ours=build_large, floor=build_small, bar=Bar("ours", "<=", 2)),
        row(f"reading {samples}: peak", "GB", ours=many, floor=few, bar=Bar("ours / floor", "<=", 1.1)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--job", nargs=4, metavar=("JOB", "ROWS", "ENCODER", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(options.job[0], *map(Path, options.job[1:]))
    else:
        report("memory", compare(options.gigabytes))


if __name__ == "__main__":
    main()
