"""Does an index belong to the encoder beside it? The manifest says so; here it is asked of the rows themselves.

A version keeps some held-out rows and where they stand among its items. Embedded by its encoder they must be what
stands there, and searched for they must be found there. Another encoder, be it of the same architecture and the same
data, has another latent space, in which neither holds.
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
"""An index that gives up recall misses some; that of another encoder misses nearly all."""


@dataclass(frozen=True)
class Consistency:
    """Shares of the rows asked: whose embedding is the stored one, and which are among the 10 nearest to it."""

    rows: int
    embedded: float
    found: float

    @property
    def holds(self) -> bool:
        """Is every row what is stored of it, and are most found?"""
        return self.embedded == 1.0 and self.found >= LEAST_FOUND


def check_consistency(version: Version) -> Consistency:
    """Ask a version of the held-out rows that it keeps; of one that keeps none, its canary query.

    A hit as near as the row itself counts as the row: equal rows have no order.
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
    own = version.embeddings.scores(stored, hits)  # how near the hits are to what is stored
    best = version.embeddings.scores(stored, positions[:, None])
    as_near = own <= best + slack if version.metric == "l2" else own >= best - slack
    found = ((hits == positions[:, None]) | as_near).any(axis=1) & usable.ravel()
    return Consistency(len(positions), float(same.mean()), float(found.mean()))
