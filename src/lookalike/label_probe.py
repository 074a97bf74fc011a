"""Ask a version's embeddings for labels: its own items teach, rows that it does not hold are asked."""

import numpy as np

from lookalike.index.versions.embed import suited
from lookalike.index.versions.version import Version
from lookalike.training.evaluation.probe import ProbeScores, probe
from lookalike.training.rows import Rows, read_sample

__all__ = ["probe_version"]

MOST = 10_000
"""Items, and rows, beyond so many are sampled."""


def probe_version(version: Version, queries: Rows, seed: int = 0) -> ProbeScores | None:
    """How well probes of the items' embeddings tell the labels of `queries`; None without labels of two kinds.

    Raises:
        DataError: the rows are not such as the encoder takes.
    """
    count = len(version.embeddings)
    chosen = np.sort(np.random.default_rng(seed).choice(count, min(MOST, count), replace=False))
    labels = [version.items.payload_at(int(i)).get("label") for i in chosen]
    if all(label is None for label in labels):
        return None
    rows, query_labels = read_sample(suited(queries, version.encoder), MOST, seed)
    return probe(version.embeddings.at(chosen), labels, version.embed(rows), query_labels, seed=seed)
