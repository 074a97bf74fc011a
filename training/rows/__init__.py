"""Reading rows, whatever they are kept in: in chunks, checked, never all at once."""

from training.rows.base import Chunk, Rows, evenly, read_sample
from training.rows.fingerprinting import fingerprints, sketches
from training.rows.opening import open_rows

__all__ = ["Chunk", "Rows", "evenly", "fingerprints", "open_rows", "read_sample", "sketches"]
