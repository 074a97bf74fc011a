"""Training runs of `benchmarks.quality`: the shipped configuration and the former one, and their speed."""

import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import build_config
from lookalike.training.fit.job import train
from lookalike.training.rows import Rows, read_sample

__all__ = ["FORMER", "Run", "encoded", "single_row_us", "trained"]

FORMER = [
    "features.kind=none",
    "loss.target=rows",
    "corruption.shift=0",
    "corruption.zoom=0",
    "corruption.rotation=0",
]
"""The settings that switch off all that the former configuration did not have."""
_CALLS, _ROUNDS = 200, 9


@dataclass(frozen=True)
class Run:
    """An encoder, and the seconds of its training."""

    encoder: Encoder
    seconds: float


def trained(rows: Rows, seed: int, overrides: list[str] | None = None) -> Run:
    """Train the shipped configuration; only the seed and the `overrides`, lines of `section.key=value`, are set."""
    config = build_config({}, [f"fit.seed={seed}", *(overrides or [])])
    config = dataclasses.replace(config, data=rows.settings or config.data)  # the windows that were chosen
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoder = train(rows, config, Path(folder) / "run").encoder
        return Run(encoder, time.perf_counter() - began)


def encoded(encoder: Encoder, rows: Rows) -> Floats:
    """Return the embeddings of all rows of a source, read as the encoder reads its inputs."""
    opened = rows.suited(encoder.inputs).measured_from(encoder.origin)
    return encoder.encode(read_sample(opened, opened.count, seed=0)[0])


def single_row_us(encoders: dict[str, Encoder], rows: Floats) -> dict[str, float]:
    """Return the median microseconds of encoding one row of (n, width), by name; the encoders take turns."""
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(_ROUNDS):
        for name, encoder in encoders.items():
            for place in np.arange(_CALLS) % len(rows):
                row = rows[place : place + 1]
                began = time.perf_counter()
                encoder.encode(row)
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) * 1e6 for name, seconds in taken.items()}
