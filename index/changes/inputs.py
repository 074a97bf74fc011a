"""Inputs of items as the change log keeps them: as the client sent them, before an encoder subtracts its origin.

For an encoder with an origin (training.tables.origin) they are float64, since another encoder may subtract another
origin. For all others float32 is enough.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lookalike.training.tables.origin import Origin, relative

__all__ = ["Input", "pack", "stacked", "unpack"]

Input = NDArray[np.float32 | np.float64]
_KINDS = {"<f4": b"f", "<f8": b"d"}


def pack(values: Input) -> bytes:
    """(width,) -> its numbers, little-endian, and a byte for their type: f of float32, d of float64.

    That byte comes last, so that the numbers are aligned in memory.
    """
    kind = "<f8" if values.dtype.itemsize == 8 else "<f4"
    return np.ascontiguousarray(values, kind).tobytes() + _KINDS[kind]


def unpack(blob: bytes) -> Input:
    """(width,): the values that `pack` took.

    Raises:
        ValueError: `pack` does not make such bytes.
    """
    for kind, byte in _KINDS.items():
        size = np.dtype(kind).itemsize
        if blob[-1:] == byte and len(blob) % size == 1:
            return np.frombuffer(blob, kind, len(blob) // size)
    raise ValueError(f"an input of {len(blob)} bytes, the last {blob[-1:]!r}")


def stacked(inputs: Iterable[Input | None], origin: Origin) -> NDArray[np.float32]:
    """(n, width) float32, less an encoder's origin: the n >= 1 inputs that are not None."""
    return relative(np.stack([one for one in inputs if one is not None]), origin)
