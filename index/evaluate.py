"""Ask a version how good it is, now: recall and latency, and with labels, precision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.embed import suited
from index.measure import Exam, Measured
from index.version import Version
from training.rows import Rows, read_sample

__all__ = ["Evaluated", "evaluate"]

QUERIES = 1_000
K = 10


@dataclass(frozen=True)
class Evaluated:
    """What was asked and found.

    Attributes:
        precision: the mean share of a query's hits that have its label; None without labels.
        held: how many queries find an item of exactly their embedding: rows that the version holds flatter it.
    """

    measured: Measured
    precision: float | None
    held: int


def evaluate(version: Version, queries: Rows | None = None, seed: int = 0) -> Evaluated:
    """Measure with `queries`, or without any, with the version's own items, none of which may find itself."""
    count = len(version.embeddings)
    own: NDArray[np.int64] | None = None
    if queries is None:
        chosen = np.sort(np.random.default_rng(seed).choice(count, min(QUERIES, count), replace=False))
        own, embeddings = chosen, version.embeddings.at(chosen)
        labels = [version.items.payload_at(int(i)).get("label") for i in chosen]
    else:
        rows, labels = read_sample(suited(queries, version.encoder), QUERIES, seed)
        embeddings = version.embed(rows)
    measured, found = Exam(version.embeddings, embeddings, own, K).take(version.index)
    hits = [[version.items.payload_at(int(p)).get("label") for p in row if p >= 0] for row in found]
    known = [(label, row) for label, row in zip(labels, hits, strict=True) if label is not None and row]
    shares = [row.count(label) / len(row) for label, row in known]
    held = 0 if queries is None else _held(version, embeddings, found[:, 0])
    return Evaluated(measured, float(np.mean(shares)) if shares else None, held)


def _held(version: Version, embeddings: NDArray[np.float32], nearest: NDArray[np.int64]) -> int:
    """Encoded in another block, a row's embedding is the same to float32's rounding."""
    some = nearest >= 0
    items = version.embeddings.at(nearest[some])
    return int(np.isclose(items, embeddings[some], rtol=1e-5, atol=1e-5).all(axis=1).sum())
