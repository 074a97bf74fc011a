"""The kinds of index to try for a number of vectors and dimensions, the most promising first.

To add a kind, add a line to `KINDS`. FAISS's wiki explains the kinds under "Guidelines to choose an index".

NSG is left out: building it takes ten times as long as HNSW for the same speed, vectors cannot be added later, and the
build never ends in FAISS 1.15 if many vectors are equal. Quantized centroids are left out: FAISS compares them one at a
time, and plain centroids in blocks, twice as fast.
"""

import math
from dataclasses import dataclass

from lookalike.index.ann.vectors import VectorIndex

__all__ = ["Candidate", "candidates", "training_rows"]

SPREAD = 39
"""The fewest vectors per centroid for which FAISS's k-means does not warn."""
ENOUGH = 64
"""Training vectors per centroid; more hardly change the centroids."""
LEAST_TRAINING = 20_000


@dataclass(frozen=True)
class Candidate:
    """A kind of index, for any number of vectors.

    Attributes:
        key: FAISS's description, with the placeholders "{lists}" and "{half}", half of the number of dimensions.
        lists: the number of lists, as a multiple of the square root of the number of vectors; 0 for no lists.
        least, most: the numbers of vectors to try this kind for. Below, comparing with all vectors is as fast; above,
            it takes too long to build or to search.
        even: whether the kind needs an even number of dimensions.
    """

    key: str
    lists: float = 0
    least: int = 1
    most: int = 1 << 62
    even: bool = False

    def suits(self, count: int, dim: int) -> bool:
        return self.least <= count <= self.most and not (self.even and dim % 2)

    def key_for(self, count: int, dim: int) -> str:
        """Return FAISS's description of this kind for `count` vectors of `dim` dimensions."""
        lists = round(self.lists * math.sqrt(count))
        return self.key.format(lists=max(1, min(lists, count // SPREAD)), half=dim // 2)


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
    """Return the kinds to try, the most promising first."""
    return [kind for kind in KINDS if kind.suits(count, dim)]


def training_rows(index: VectorIndex) -> int:
    """Return the number of vectors to train an index with."""
    return max(LEAST_TRAINING, ENOUGH * index.search_params.lists)
