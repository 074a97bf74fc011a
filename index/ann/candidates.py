"""Which indexes are worth a try for so many vectors of so many dimensions, the likeliest first.

To add one: a line in `KINDS`. FAISS's wiki, "Guidelines to choose an index", says what they are. NSG is not among them:
it takes ten times as long as HNSW to build, for as much speed, cannot be added to, and FAISS 1.15 never ends building
it where many vectors are the same. Nor are quantised centroids: FAISS compares with those one at a time, and with plain
ones in a block, twice as fast.
"""

import math
from dataclasses import dataclass

from lookalike.index.ann.vectors import VectorIndex

__all__ = ["Candidate", "candidates", "training_rows"]

SPREAD = 39
"""Vectors a centroid, at least: k-means of FAISS warns below."""
ENOUGH = 64
"""Vectors a centroid to train with; more barely move it."""
LEAST_TRAINING = 20_000


@dataclass(frozen=True)
class Candidate:
    """An index by what it is made of, for any number of vectors.

    Attributes:
        lists: how many lists, as a multiple of the square root of the number of vectors; 0 where it has none.
        key: FAISS's description with "{lists}" and "{half}", the number of dimensions over two, left open.
        least, most: for how many vectors it is worth a try: below, comparing with all is as fast; above, it
            takes too long to build, or to search.
    """

    key: str
    lists: float = 0
    least: int = 1
    most: int = 1 << 62
    even: bool = False

    def suits(self, count: int, dim: int) -> bool:
        return self.least <= count <= self.most and not (self.even and dim % 2)

    def key_for(self, count: int, dim: int) -> str:
        """FAISS's description of it for `count` vectors of `dim` dimensions."""
        wanted = round(self.lists * math.sqrt(count))
        return self.key.format(lists=max(1, min(wanted, count // SPREAD)), half=dim // 2)


KINDS = (
    Candidate("Flat", most=200_000),
    Candidate("IVF{lists},SQfp16", 2, 1_000),
    Candidate("IVF{lists},SQfp16", 1.5, 1_000),
    Candidate("IVF{lists},SQfp16", 1, 1_000, 200_000),
    Candidate("IVF{lists},SQfp16", 4, 10_000, 1_000_000),
    Candidate("IVF{lists},SQ8", 2, 1_000),
    Candidate("IVF{lists},SQ8", 4, 1_000_000),
    Candidate("IVF{lists},Flat", 2, 1_000),
    Candidate("IVF{lists},PQ{half}x4fs,Refine(SQfp16)", 2, 10_000, even=True),
    Candidate("HNSW16", 0, 1_000, 200_000),
    Candidate("HNSW32_SQ8", 0, 1_000, 200_000),
    Candidate("HNSW32", 0, 1_000, 200_000),
    Candidate("IVF{lists},RaBitQfs,RFlat", 2, 10_000, 1_000_000),
    Candidate("SQfp16", 0, 1_000, 200_000),
)


def candidates(count: int, dim: int) -> list[Candidate]:
    """Those that are worth a try, the likeliest to win first."""
    return [kind for kind in KINDS if kind.suits(count, dim)]


def training_rows(index: VectorIndex) -> int:
    """How many vectors to train an index with."""
    return max(LEAST_TRAINING, ENOUGH * index.search_params.lists)
