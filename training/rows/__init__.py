"""Reading rows, whatever they are kept in: in chunks, checked, never all at once."""

from lookalike.training.rows.base import Chunk, Rows, evenly, read_at, read_sample, sampled
from lookalike.training.rows.fingerprinting import fingerprints, sketches
from lookalike.training.rows.opening import open_rows

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
]
