"""Small real things to train on and to damage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig, load_config
from training.rows import Chunk, Rows, open_rows

__all__ = ["array_rows", "blobs", "flip_bit", "quick", "read_all"]

QUICK = (
    "model.hidden=[8]",
    "model.latent_dim=3",
    "fit.epochs=3",
    "fit.batch_size=16",
    "fit.device='cpu'",
)


def quick(*overrides: str) -> TrainConfig:
    """Settings that train in a moment, and `section.key=value` lines over them."""
    return load_config(None, [*QUICK, *overrides])


def blobs(count: int = 60, width: int = 6, seed: int = 0) -> NDArray[np.float32]:
    """(count, width) around three centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (3, width))
    return (centres[np.arange(count) % 3] + rng.normal(0, 0.5, (count, width))).astype(np.float32)


def array_rows(inputs: NDArray[Any], labels: list[Any] | None = None, *, pixels: bool = False) -> Rows:
    """A source of rows in memory."""
    payloads = [{} if labels is None else {"label": label} for label in labels or range(len(inputs))]

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(inputs), size):
            part = slice(first, first + size)
            ids = [str(i) for i in range(len(inputs))[part]]
            yield Chunk(ids, inputs[part].reshape(len(ids), -1), payloads[part])

    return Rows("memory", inputs.shape[1:], len(inputs), pixels, read)


def read_all(name: Path | str, size: int | None = None) -> Chunk:
    """Every row of a source, as one chunk."""
    chunks = list(open_rows(str(name)).chunks(size))
    return Chunk(
        [i for chunk in chunks for i in chunk.ids],
        np.concatenate([chunk.inputs for chunk in chunks]),
        [p for chunk in chunks for p in chunk.payloads],
    )


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit; `bit` is counted from the file's start, round and round."""
    data = bytearray(path.read_bytes())
    place, shift = divmod(bit % (8 * len(data)), 8)
    data[place] ^= 1 << shift
    path.write_bytes(data)
