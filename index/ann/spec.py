"""The specification of an index: its kind, its metric and its search parameters."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["MAX_KEY", "IndexSpec", "Metric", "key_problem", "read_header"]

MAX_KEY = 100
"""The most characters of a key: FAISS's parser crashes the process on some longer keys."""
MAX_LISTS, MAX_BITS, MAX_OTHER = 1 << 20, 16, 1 << 16
MAX_TABLE = 1 << 28
"""The most values of a code table: FAISS allocates it, and the lists, immediately after parsing the key."""
_KEY = re.compile(r"[A-Za-z0-9_,()+.-]+")
_NUMBERS = re.compile(r"(IVF|IMI2x|x|)(\d+)")
_HEAD = struct.Struct("<4siq")
"""The beginning of each index file: four letters for the kind, the dimensions, the number of vectors."""

Metric = Literal["cosine", "l2", "ip"]


@dataclass(frozen=True)
class IndexSpec:
    """The specification of an index, stored in the version's manifest.

    From best to worst, cosine similarity and inner product decrease, Euclidean distance (l2) increases.

    Attributes:
        key: the description for `faiss.index_factory`, such as "IVF512,SQfp16".
        search: the search parameters, such as "nprobe=8,k_factor=4"; empty means FAISS's defaults.
    """

    key: str
    metric: Metric
    search: str = ""

    @property
    def faiss_metric(self) -> int:
        """FAISS's metric. For cosine it is l2, which orders unit vectors equally and which FAISS quantizes better."""
        import faiss  # imported here so that commands that only read manifests start fast

        return int(faiss.METRIC_INNER_PRODUCT if self.metric == "ip" else faiss.METRIC_L2)


def key_problem(key: str, dim: int) -> str | None:
    """Return why FAISS must not build an index of this key and `dim` dimensions; None if the key is valid."""
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        return f"not 1 to {MAX_KEY} letters, digits and _,()+.-"
    width, bits = dim, 8
    for word, digits in _NUMBERS.findall(key):
        number = int(digits)
        most = {"IVF": MAX_LISTS, "IMI2x": MAX_LISTS.bit_length() // 2, "x": MAX_BITS}.get(word, MAX_OTHER)
        if number > most:
            return f"{word}{number}, more than {most:,}"
        width, bits = (width, max(bits, number)) if word == "x" else (max(width, number) if not word else width, bits)
    return None if width << bits <= MAX_TABLE else f"codes of {bits} bits for {width:,} values"


def read_header(path: Path) -> tuple[int, int]:
    """Return the numbers of dimensions and of vectors in the header of an index file; 0 and 0 if it is too short."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    return _HEAD.unpack(head)[1:] if len(head) == _HEAD.size else (0, 0)
