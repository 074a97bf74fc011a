"""Inputs of items in the change log: as the client sent them, before an encoder subtracts its origin.

If the encoder has an origin (training.tables.origin), they are float64, because a later encoder may subtract another
origin. Otherwise they are float32.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Floats
from lookalike.training.tables.origin import Origin, relative

__all__ = ["Input", "pack", "stacked", "unpack"]

Input = NDArray[np.float32 | np.float64]
_KINDS = {"<f4": b"f", "<f8": b"d"}


def pack(values: Input) -> bytes:
    """(width,) -> the numbers, little-endian, and a byte for their type: f for float32, d for float64.

    The byte comes last, so that the numbers are aligned in memory.
    """
    kind = "<f8" if values.dtype.itemsize == 8 else "<f4"
    return np.ascontiguousarray(values, kind).tobytes() + _KINDS[kind]


def unpack(blob: bytes) -> Input:
    """Return the values that were packed, (width,). Raises ValueError if the bytes are no packed values."""
    for kind, byte in _KINDS.items():
        size = np.dtype(kind).itemsize
        if blob[-1:] == byte and len(blob) % size == 1:
            return np.frombuffer(blob, kind, len(blob) // size)
    raise ValueError(f"an input of {len(blob)} bytes, the last {blob[-1:]!r}")


def stacked(inputs: Iterable[Input | None], origin: Origin) -> Floats:
    """Stack the inputs that are not None, at least one, and subtract the origin: (n, width) float32."""
    return relative(np.stack([values for values in inputs if values is not None]), origin)
