"""Which index, over which metric, searched how."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["MAX_KEY", "IndexSpec", "Metric", "read_head", "wrong_key"]

MAX_KEY = 100
"""Characters of a key: FAISS's parser ends the process on some that are longer."""
MAX_LISTS, MAX_BITS, MAX_OTHER = 1 << 20, 16, 1 << 16
MAX_TABLE = 1 << 28
"""Values of a table of codes: FAISS allocates it, and the lists, as soon as it has read the key."""
_KEY = re.compile(r"[A-Za-z0-9_,()+.-]+")
_NUMBERS = re.compile(r"(IVF|IMI2x|x|)(\d+)")
_HEAD = struct.Struct("<4siq")
"""How each index file begins: four letters for the kind, the dimensions, the number of vectors."""

Metric = Literal["cosine", "l2", "ip"]


@dataclass(frozen=True)
class IndexSpec:
    """What to build; it stands in the version's manifest.

    Scores, best first: cosine similarity and inner product fall, Euclidean distance (l2) rises.

    Attributes:
        key: FAISS's own description of an index, as `faiss.index_factory` takes it: "IVF512,SQfp16".
        search: how it is searched, as "nprobe=8,k_factor=4"; empty leaves what FAISS takes by itself.
    """

    key: str
    metric: Metric
    search: str = ""

    @property
    def faiss_metric(self) -> int:
        """Of unit vectors, the nearest by cosine are those by Euclidean distance, which FAISS quantises better for."""
        import faiss  # here, so that commands which only read manifests start fast

        return int(faiss.METRIC_INNER_PRODUCT if self.metric == "ip" else faiss.METRIC_L2)


def wrong_key(key: str, dim: int) -> str | None:
    """Why FAISS must not make an index of this key and so many dimensions; None if it may."""
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


def read_head(path: Path) -> tuple[int, int]:
    """The numbers of dimensions and of vectors that an index file states; 0 and 0 if it is too short."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    return _HEAD.unpack(head)[1:] if len(head) == _HEAD.size else (0, 0)
