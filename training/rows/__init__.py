"""Rows from any source: read in chunks and checked, never all at once.

Imports training's errors and tables.
"""

from lookalike.training.rows.base import Chunk, Rows, evenly, read_at, read_sample, sampled, spread
from lookalike.training.rows.fingerprint import fingerprints, sketches
from lookalike.training.rows.sources import open_rows

__all__ = [
    "Chunk",
    "Rows",
    "evenly",
    "fingerprints",
    "open_rows",
    "read_at",
    "read_sample",
    "sampled",
    "sketches",
    "spread",
]
