"""Label probes: classifiers trained on the embeddings of a version's items and tested on rows that are not items."""

import numpy as np

from lookalike.index.versions.embed import suited
from lookalike.index.versions.version import Version
from lookalike.training.evaluation.probe import ProbeScores, probe
from lookalike.training.rows import Rows, read_sample

__all__ = ["probe_version"]

MAX_SAMPLES = 10_000
"""The most items, and the most rows; if there are more, a sample is used."""


def probe_version(version: Version, queries: Rows, seed: int = 0) -> ProbeScores | None:
    """Measure how well probes of the items' embeddings predict the labels of `queries`; None if fewer than two labels.

    Raises DataError if the encoder does not accept the rows.
    """
    count = len(version.embeddings)
    chosen = np.sort(np.random.default_rng(seed).choice(count, min(MAX_SAMPLES, count), replace=False))
    labels = [version.items.payload_at(int(i)).get("label") for i in chosen]
    if all(label is None for label in labels):
        return None
    rows, query_labels = read_sample(suited(queries, version.encoder), MAX_SAMPLES, seed)
    return probe(version.embeddings.at(chosen), labels, version.embed(rows), query_labels, seed=seed)
