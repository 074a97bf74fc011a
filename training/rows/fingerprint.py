"""Fingerprints of rows: 64-bit hashes of their values."""

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Floats

__all__ = ["fingerprints", "sketches"]

_BLOCK_VALUES = 1 << 22
_KEY = 0x5EED
_SKETCHED = 64


def fingerprints(rows: Floats) -> NDArray[np.uint64]:
    """(n, width) float32 -> (n,) uint64, the same for rows of equal values (0 equals -0, and NaN equals NaN).

    Each is the sum of the values' bits times random weights, modulo 2^64 (Dietzfelbinger 1996). Two different rows
    have the same fingerprint with a probability of at most about 2^-32; treating them as equal is harmless.
    """
    weights = np.random.default_rng(_KEY).integers(1 << 64, size=rows.shape[1], dtype=np.uint64)
    prints = np.empty(len(rows), np.uint64)
    block = max(1, _BLOCK_VALUES // max(1, rows.shape[1]))
    for start in range(0, len(rows), block):
        part = rows[start : start + block] + np.float32(0)  # (block, width), -0 becomes 0
        part[np.isnan(part)] = np.nan
        prints[start : start + block] = part.view(np.uint32).astype(np.uint64) @ weights
    return prints


def sketches(rows: Floats) -> NDArray[np.uint64]:
    """(n, width) -> (n,) fingerprints of 64 fixed, random columns: enough to recognize a row, and fast."""
    chosen = np.random.default_rng(_KEY).permutation(rows.shape[1])[:_SKETCHED]
    return fingerprints(np.ascontiguousarray(rows[:, np.sort(chosen)]))
