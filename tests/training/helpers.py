"""Small real things to train on and to damage."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.config import TrainConfig, load_config
from lookalike.training.errors import LookalikeError
from lookalike.training.rows import Chunk, Rows, open_rows

__all__ = ["array_rows", "blobs", "changed_fields", "error_of", "flip_bit", "quick", "read_all"]

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


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 2**53, 2**63, 2**70, 0.5, -1e308, 1e308),
    *("", "x", "x" * 10_000, "\0", "é", [], [[]], {}, {"x": 1}),
)
"""Values of every type of JSON, and extremes."""


def changed_fields(header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A header with one field left out, or with another value in its place; and the name that an error must say.

    Fields within fields too; of a list, the first entry.
    """
    for path in _paths(header):
        for odd in (*ODD, _GONE):
            other = copy.deepcopy(header)
            inner: Any = other
            for part in path[:-1]:
                inner = inner[part]
            if odd is _GONE and isinstance(inner, dict):
                del inner[path[-1]]
            else:
                inner[path[-1]] = None if odd is _GONE else odd
            yield str(path[0]), other


def error_of(act: Callable[[], object]) -> Exception | None:
    """The LookalikeError that a call raises; None if it raises none."""
    try:
        act()
    except LookalikeError as error:
        return error
    return None


_GONE = object()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            if path or name not in {"format", "files"}:
                yield from _paths(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))
