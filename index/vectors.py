"""The one place on this floor that calls FAISS, and so the one place that checks what it is called with.

FAISS itself stores NaN, allocates what `k` asks for, and answers a wrong dimension with an empty error.
"""

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import QueryError
from index.spec import KINDS, IndexSpec
from training.errors import ArtifactError

__all__ = ["DEFAULT_LIMIT", "MAX_LIMIT", "VectorIndex", "check_limit", "drop_own", "near_pairs", "normalize"]

DEFAULT_LIMIT = 10
MAX_LIMIT = 1_024
"""The most neighbours that one search may ask for."""
MAX_VALUE = 1e16
"""Beyond this, squares and their sums leave float32, and FAISS finds nothing without saying so."""

BLOCK_PAIRS = 1 << 24
"""Vectors that are compared with all others at a time, times those: at most so many pairs are in memory."""
ROUNDING = 1e-5
"""Of the largest squared length: what a squared distance out of a float32 matrix product may be wrong by."""

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]


class VectorIndex:
    """Embeddings in the order they were added; a position is an int64 row number."""

    def __init__(self, spec: IndexSpec, dim: int, loaded: faiss.Index | None = None) -> None:
        self.spec = spec
        self.dim = dim
        self._index = KINDS[spec.kind](dim, spec) if loaded is None else loaded

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, embeddings: Vectors) -> None:
        """Append (n, dim) float32, within MAX_VALUE; for cosine, of unit length."""
        self._index.add(self._checked(embeddings))

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Positions]:
        """The k nearest of each query, best first.

        Args:
            queries: (n, dim) float32, within MAX_VALUE; for cosine, of unit length.
            k: from 1 to MAX_LIMIT.

        Returns:
            scores: (n, min(k, items)) float32 in the metric's unit.
            positions: the same shape, int64; -1 where an approximate search found fewer.

        Raises:
            QueryError: a wrong shape, a value that is not finite or too large, or k out of bounds.
        """
        return self._nearest(self._index, queries, k)

    def search_exactly(self, queries: Vectors, k: int) -> tuple[Vectors, Positions]:
        """The same by brute force over the stored vectors: the truth to measure `search` against."""
        stored = getattr(self._index, "storage", self._index)
        return self._nearest(faiss.downcast_index(stored), queries, k)

    def reconstruct(self, positions: Positions) -> Vectors:
        """(n, dim): the embeddings at `positions`; FAISS would read memory that is not its own for others.

        Raises:
            QueryError: a position that no item has.
        """
        if not ((positions >= 0) & (positions < len(self))).all():
            raise QueryError("positions", expected=f"from 0 to {len(self) - 1}", found=str(positions.tolist()))
        vectors: Vectors = self._index.reconstruct_batch(positions)
        return vectors

    def write(self, path: Path) -> None:
        """In FAISS's own format."""
        faiss.write_index(self._index, str(path))

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, dim: int) -> "VectorIndex":
        """Parse a file that was verified.

        Raises:
            ArtifactError: not an index, or not the one that `spec` and `dim` describe.
        """
        try:
            loaded = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ArtifactError(str(path), expected="a FAISS index", found=str(error).splitlines()[-1]) from error
        wanted = KINDS[spec.kind](dim, spec)
        if type(loaded) is not type(wanted) or loaded.d != dim or loaded.metric_type != spec.faiss_metric:
            raise ArtifactError(
                str(path),
                expected=f"{spec.kind}, {dim} dimensions, {spec.metric}",
                found=f"{type(loaded).__name__}, {loaded.d} dimensions",
                remedy="Build the version again.",
            )
        return cls(spec, dim, loaded)

    def _nearest(self, index: faiss.Index, queries: Vectors, k: int) -> tuple[Vectors, Positions]:
        check_limit(k)
        queries = self._checked(queries)
        if len(self) == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, positions = index.search(queries, min(k, len(self)))
        return self._unit(scores), positions

    def _checked(self, vectors: Vectors) -> Vectors:
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise QueryError("embeddings", expected=f"shape (n, {self.dim})", found=f"{vectors.shape}")
        vectors = np.ascontiguousarray(vectors, np.float32)
        if not (np.abs(vectors) <= MAX_VALUE).all():
            raise QueryError("embeddings", expected=f"finite numbers within ±{MAX_VALUE:g}", found="others")
        return vectors

    def _unit(self, scores: Vectors) -> Vectors:
        """FAISS gives squared distances; the unit is the distance."""
        unit: Vectors = np.sqrt(np.maximum(scores, 0)) if self.spec.metric == "l2" else scores
        return unit


def check_limit(limit: int, most: int = MAX_LIMIT) -> None:
    """Raises QueryError unless 1 <= limit <= most."""
    if not 1 <= limit <= most:
        raise QueryError("limit", expected=f"from 1 to {most}", found=str(limit))


def drop_own(scores: Vectors, positions: Positions, own: Positions, k: int) -> tuple[Vectors, Positions]:
    """Take each query's own position, (n,), out of what it found, (n, m), and keep the best k."""
    mine = positions == own[:, None]
    order = np.argsort(mine, axis=1, kind="stable")[:, :k]  # (n, at most k), a row's own goes last
    kept = np.where(mine, -1, positions)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(kept, order, axis=1)


def normalize(vectors: Vectors) -> Vectors:
    """(n, dim) scaled to unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)  # float32 has no room for the squares
    unit: Vectors = (vectors / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return unit


def near_pairs(vectors: Vectors, reach: float) -> Iterator[tuple[int, Positions, Positions]]:
    """All pairs of (n, dim) vectors within the Euclidean distance `reach`, and some that are a rounding farther.

    Yields:
        Block by block: how many vectors it compared with all; the pairs, (pairs,) and (pairs,), the first of each
        the lesser.
    """
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    largest = float(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0))
    size = max(1, BLOCK_PAIRS // max(1, len(vectors)))
    for start in range(0, len(vectors), size):
        block = vectors[start : start + size]
        ends, _, other = index.range_search(block, reach**2 + ROUNDING * largest)
        counts = (ends[1:] - ends[:-1]).astype(np.int64)  # (block,)
        one = np.repeat(np.arange(start, start + len(block)), counts)
        after = other > one
        yield len(block), one[after], other[after]
