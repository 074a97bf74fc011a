"""Check with stored rows that the index of a version belongs to its encoder.

A version keeps some held-out rows and their positions among its items. The encoder must map them to the embeddings at
these positions, and a search for them must find these positions. With another encoder, even of the same architecture
and data, both fail, because its latent space is another.
"""

from dataclasses import dataclass

import numpy as np

from lookalike.index.ann.recall import K
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.version import Version

__all__ = ["Consistency", "check_consistency"]

MOST_ASKED = 256
TOLERANCE = 1e-3
"""Relative to the largest value of an embedding, or of the median embedding: rounding differs by device and batch."""
LEAST_FOUND = 0.5
"""An approximate index misses some rows; the index of another encoder misses nearly all."""


@dataclass(frozen=True)
class Consistency:
    """The number of rows, and the shares that have the stored embedding and that a search for 10 items finds."""

    rows: int
    embedded: float
    found: float

    @property
    def holds(self) -> bool:
        """Whether every row has its stored embedding, and most are found."""
        return self.embedded == 1.0 and self.found >= LEAST_FOUND


def check_consistency(version: Version) -> Consistency:
    """Check a version with its held-out rows, or with its canary query if it keeps no rows.

    A hit that is as near as the row itself counts as the row, because ties have no order.
    """
    positions = np.array(version.manifest.held, np.int64)[:MOST_ASKED]
    if not len(positions):
        share = float(version.answers_canary())
        return Consistency(1, share, share)
    latent = version.encoder.encode(np.array(version.held[: len(positions)]))
    usable = np.isfinite(latent).all(axis=1, keepdims=True)  # (n, 1)
    embeddings = in_metric(np.where(usable, latent, np.float32(0)), version.metric)
    stored = version.embeddings.at(positions)
    largest = np.abs(stored).max(axis=1, keepdims=True)  # (n, 1)
    slack = TOLERANCE * np.maximum(largest, max(float(np.median(largest)), 1e-30))
    same = (np.abs(embeddings - stored) <= slack).all(axis=1) & usable.ravel()  # (n,)
    hits = version.searcher.search(embeddings, K).positions  # (n, K)
    own = version.embeddings.scores(stored, hits)
    best = version.embeddings.scores(stored, positions[:, None])
    as_near = own <= best + slack if version.metric == "l2" else own >= best - slack
    found = ((hits == positions[:, None]) | as_near).any(axis=1) & usable.ravel()
    return Consistency(len(positions), float(same.mean()), float(found.mean()))
