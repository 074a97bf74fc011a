"""A version's embeddings as they are, in float32, mapped from disk: the truth that an index is measured against.

embeddings.npy   float32 (n, latent_dim), in the order of the index

A search reads the rows that it found, and under a filter those that it compares with all of; what was read can be
dropped, so it takes disk, and no memory of its own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.index.ann.scores import bounded
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import nearest
from lookalike.index.arrays import load_array
from lookalike.index.errors import QueryError
from lookalike.training.errors import ArtifactError

__all__ = ["EMBEDDINGS", "Embeddings", "exact_scores", "read_embeddings"]

EMBEDDINGS = "embeddings.npy"
BLOCK_VALUES = 1 << 24
"""Values that are read at a time: 64 MiB."""
BLOCK_SCORES = 1 << 26

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]


class Embeddings:
    """(n, dim) float32, read where it is asked for; of unit length where the metric is cosine."""

    def __init__(self, vectors: Vectors, metric: Metric) -> None:
        self.metric = metric
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def dim(self) -> int:
        return int(self._vectors.shape[1])

    @property
    def vectors(self) -> Vectors:
        """(n, dim): as they are mapped, not copied."""
        return self._vectors

    def head(self, count: int) -> "Embeddings":
        """The first `count` of them, not copied."""
        return Embeddings(self._vectors[:count], self.metric)

    def at(self, positions: Positions) -> Vectors:
        """(m, dim): a copy of those at `positions`, (m,).

        Raises:
            QueryError: a position that no item has.
        """
        if not ((positions >= 0) & (positions < len(self))).all():
            raise QueryError("positions", expected=f"from 0 to {len(self) - 1}", found=str(positions.tolist())[:80])
        vectors: Vectors = self._vectors[positions]
        return vectors

    def sample(self, count: int, seed: int) -> Positions:
        """Positions of `count` of them at most, rising: one drawn out of each of so many equal parts."""
        if len(self) <= count:
            return np.arange(len(self))
        ends = np.arange(count + 1) * len(self) // count
        return np.random.default_rng(seed).integers(ends[:-1], ends[1:])

    def blocks(self, among: Positions | None = None) -> Iterator[tuple[Positions, Vectors]]:
        """All of them, or those at the positions `among`, (m,): block by block with their positions."""
        size = max(1, BLOCK_VALUES // max(1, self.dim))
        count = len(self) if among is None else len(among)
        for start in range(0, count, size):
            stop = min(count, start + size)
            places = np.arange(start, stop) if among is None else among[start:stop]
            yield places, np.ascontiguousarray(self._vectors[start:stop] if among is None else self._vectors[places])

    def scores(self, queries: Vectors, positions: Positions) -> Vectors:
        """As `exact_scores`, with these embeddings."""
        return exact_scores(lambda p: self._vectors.take(p, axis=0, mode="clip"), queries, positions, self.metric)

    def nearest(self, queries: Vectors, k: int, among: Positions | None = None) -> tuple[Vectors, Positions]:
        """The k nearest of each query by comparison with all, or with those at the positions `among`.

        In blocks, so that memory does not grow; on a CUDA device where there is one.

        Args:
            queries: (n, dim) float32.
            among: (m,) positions; None for all.

        Returns:
            scores and positions, (n, min(k, m)), best first, in the metric's unit.
        """
        k = min(k, len(self) if among is None else len(among))
        if not k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        best = faiss.ResultHeap(len(queries), k, keep_max=self.metric != "l2")
        for places, block in self.blocks(among):
            scores, found = _nearest(queries, block, k, self.metric)
            best.add_result(scores, places[found])
        best.finalize()
        return best.D, best.I


def exact_scores(
    vectors_at: Callable[[Positions], Vectors], queries: Vectors, positions: Positions, metric: Metric
) -> Vectors:
    """(n, k): the score of each query, (n, dim), with the items at its positions, (n, k); NaN at -1.

    In the metric's unit, computed in float64 from the float32 embeddings, so that neither the other queries nor the
    other positions change a score.

    Args:
        vectors_at: returns the embeddings at positions, (..., dim); any embedding at -1.
    """
    scores = np.empty(positions.shape, np.float32)
    size = max(1, BLOCK_VALUES // max(1, positions.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        found = vectors_at(positions[part]).astype(np.float64)  # (part, k, dim)
        if metric == "l2":
            scores[part] = np.sqrt(np.square(found - queries[part, None, :]).sum(axis=2))
        else:
            scores[part] = np.einsum("nd,nkd->nk", queries[part].astype(np.float64), found)
    scores[positions < 0] = np.nan
    return bounded(scores, metric)


def read_embeddings(folder: Path, metric: Metric, dim: int) -> Embeddings:
    """Map the embeddings of a folder that was verified.

    Raises:
        ArtifactError: not float32 (n, dim).
    """
    vectors = load_array(folder / EMBEDDINGS, mmap_mode="r")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ArtifactError(
            str(folder / EMBEDDINGS), expected=f"float32 (n, {dim})", found=f"{vectors.dtype} {vectors.shape}"
        )
    return Embeddings(vectors, metric)


def _nearest(queries: Vectors, block: Vectors, k: int, metric: Metric) -> tuple[Vectors, Positions]:
    if not torch.cuda.is_available():
        return nearest(queries, block, k, metric)
    return _nearest_on(torch.device("cuda"), queries, block, min(k, len(block)), metric)


def _nearest_on(
    device: torch.device, queries: Vectors, block: Vectors, k: int, metric: Metric
) -> tuple[Vectors, Positions]:
    """The same by matrix products of torch's; float32 throughout, for TF32 is off unless someone turns it on."""
    items = torch.tensor(block, device=device)  # (m, dim), a copy: what is mapped may not be written
    scores: list[Vectors] = []
    positions: list[Positions] = []
    for part in torch.split(torch.from_numpy(queries), max(1, BLOCK_SCORES // len(block))):
        asked = part.to(device)  # (part, dim)
        near = torch.cdist(asked, items) if metric == "l2" else asked @ items.T  # (part, m)
        top = near.topk(k, largest=metric != "l2")
        scores.append(bounded(top.values.cpu().numpy(), metric))
        positions.append(top.indices.cpu().numpy())
    return np.concatenate(scores), np.concatenate(positions)
