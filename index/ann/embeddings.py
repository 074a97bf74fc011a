"""The exact float32 embeddings of a version, mapped from disk: the ground truth for its index.

embeddings.npy   float32 (n, latent_dim), in the order of the index

A search reads only the rows of its hits, and with a filter the rows that it compares exhaustively. The kernel can drop
mapped pages at any time, so the embeddings need disk space but no memory.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import torch

from lookalike.index.ann.scores import bounded
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import nearest
from lookalike.index.arrays import map_array
from lookalike.index.errors import QueryError
from lookalike.training.array_types import Floats, Positions
from lookalike.training.errors import ArtifactError

__all__ = ["EMBEDDINGS", "Embeddings", "exact_scores", "read_embeddings"]

EMBEDDINGS = "embeddings.npy"
BLOCK_VALUES = 1 << 24
"""Values read at a time: 64 MiB."""
BLOCK_SCORES = 1 << 26


class Embeddings:
    """Embeddings, (n, dim) float32, read on demand; of unit length if the metric is cosine."""

    def __init__(self, vectors: Floats, metric: Metric) -> None:
        self.vectors, self.metric = vectors, metric
        self.dim = int(vectors.shape[1])

    def __len__(self) -> int:
        return len(self.vectors)

    def head(self, count: int) -> "Embeddings":
        """Return the first `count` embeddings, not copied."""
        return Embeddings(self.vectors[:count], self.metric)

    def at(self, positions: Positions) -> Floats:
        """Return a copy of the embeddings at `positions`, (m,): (m, dim). Raises QueryError if one is out of range."""
        if not ((positions >= 0) & (positions < len(self))).all():
            raise QueryError("positions", expected=f"from 0 to {len(self) - 1}", found=str(positions.tolist())[:80])
        vectors: Floats = self.vectors[positions]
        return vectors

    def sample(self, count: int, seed: int) -> Positions:
        """Return at most `count` ascending positions: one drawn at random from each of `count` equal parts."""
        if len(self) <= count:
            return np.arange(len(self))
        ends = np.arange(count + 1) * len(self) // count
        return np.random.default_rng(seed).integers(ends[:-1], ends[1:])

    def blocks(self, among: Positions | None = None) -> Iterator[tuple[Positions, Floats]]:
        """Yield positions and embeddings block by block: all, or those at the positions `among`, (m,)."""
        size = max(1, BLOCK_VALUES // max(1, self.dim))
        count = len(self) if among is None else len(among)
        for start in range(0, count, size):
            stop = min(count, start + size)
            positions = np.arange(start, stop) if among is None else among[start:stop]
            block = self.vectors[start:stop] if among is None else self.vectors[positions]
            yield positions, np.ascontiguousarray(block)

    def scores(self, queries: Floats, positions: Positions) -> Floats:
        """As `exact_scores`, with these embeddings."""
        return exact_scores(lambda p: self.vectors.take(p, axis=0, mode="clip"), queries, positions, self.metric)

    def nearest(self, queries: Floats, k: int, among: Positions | None = None) -> tuple[Floats, Positions]:
        """Return the k nearest of each query by exhaustive comparison with all items, or with those at `among`.

        Works in blocks, so that memory does not grow, and on a CUDA device if there is one.

        Args:
            queries: (n, dim) float32.
            among: (m,) positions.

        Returns:
            scores and positions, (n, min(k, m)), best first, in the metric's unit.
        """
        k = min(k, len(self) if among is None else len(among))
        if not k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        best = faiss.ResultHeap(len(queries), k, keep_max=self.metric != "l2")
        for places, block in self.blocks(among):
            if torch.cuda.is_available():
                scores, found = _nearest_on(torch.device("cuda"), queries, block, min(k, len(block)), self.metric)
            else:
                scores, found = nearest(queries, block, k, self.metric)
            best.add_result(scores, places[found])
        best.finalize()
        return best.D, best.I


def exact_scores(
    vectors_at: Callable[[Positions], Floats], queries: Floats, positions: Positions, metric: Metric
) -> Floats:
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
    """Map the embeddings of a verified folder. Raises ArtifactError if the array is not float32 (n, dim)."""
    path = folder / EMBEDDINGS
    vectors = map_array(path)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ArtifactError(str(path), expected=f"float32 (n, {dim})", found=f"{vectors.dtype} {vectors.shape}")
    return Embeddings(vectors, metric)


def _nearest_on(
    device: torch.device, queries: Floats, block: Floats, k: int, metric: Metric
) -> tuple[Floats, Positions]:
    """Return the k nearest by torch's matrix products, in float32: TF32 is off by default."""
    items = torch.tensor(block, device=device)  # (m, dim), a copy: torch cannot wrap a read-only map
    scores: list[Floats] = []
    positions: list[Positions] = []
    for part in torch.split(torch.from_numpy(queries), max(1, BLOCK_SCORES // len(block))):
        moved = part.to(device)  # (part, dim)
        similarity = torch.cdist(moved, items) if metric == "l2" else moved @ items.T  # (part, m)
        top = similarity.topk(k, largest=metric != "l2")
        scores.append(bounded(top.values.cpu().numpy(), metric))
        positions.append(top.indices.cpu().numpy())
    return np.concatenate(scores), np.concatenate(positions)
