"""Evaluate the current state of a version, separately for its encoder and its index.

rows -> embedding    does the encoder keep neighbors and, with labels, their classes? (index.evaluation.quality)
embedding -> index   does the index find the neighbors of the embedding, and how fast? (index.ann.recall)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike.index.ann.recall import Measurement, RecallBenchmark
from lookalike.index.evaluation.quality import EncoderQuality, mean_share, recovery, rows_to_embedding
from lookalike.index.versions.embed import suited
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Floats, Integers
from lookalike.training.rows import Rows, read_sample

__all__ = ["EvaluationResult", "evaluate"]

QUERIES = 1_000
GOOD = 0.95
"""Below this recall, the advice is to raise the target, even if the target is lower."""


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        measured: the recall and latency of the index.
        encoding: what the embedding keeps of the rows; None if the version has no held-out rows and none were given, or
            if its rows are embeddings already.
        recovered: the mean share of damaged rows that find their original, over several severities; None likewise.
        precision: the mean share of a query's hits that have its label; None without labels.
        held: the number of queries that find an item with the same embedding; such rows make the result too good.
        advice: what to do if the encoder or the index is worse than it should be.
    """

    measured: Measurement
    encoding: EncoderQuality | None
    recovered: float | None
    precision: float | None
    held: int
    advice: str


def evaluate(version: Version, queries: Rows | None = None, seed: int = 0) -> EvaluationResult:
    """Evaluate with `queries`, or else with held-out rows; these are items too, and do not count as their own hits.

    Raises:
        DataError: the queries do not fit the encoder.
    """
    rows, embeddings, labels, own = _queries(version, queries, seed)
    measured, found = RecallBenchmark(version.embeddings, embeddings, own).take(version.index)
    hits = [[version.items.payload_at(int(p)).get("label") for p in row if p >= 0] for row in found]
    known = [(label, row) for label, row in zip(labels, hits, strict=True) if label is not None and row]
    shares = [row.count(label) / len(row) for label, row in known]
    judged = len(rows) > 0 and version.encoder.embeds
    encoding = rows_to_embedding(version.encoder, rows, version.metric, labels) if judged else None
    recovered = mean_share(recovery(version.encoder, rows, version.metric)) if judged else None
    trained = encoding if version.encoder.kind == "autoencoder" else None
    return EvaluationResult(
        measured,
        encoding,
        recovered,
        float(np.mean(shares)) if shares else None,
        0 if queries is None else _held(version, embeddings, found[:, 0]),
        _advice(measured, trained, version.manifest.tuning.target.recall),
    )


def _queries(version: Version, queries: Rows | None, seed: int) -> tuple[Floats, Floats, list[Any], Integers | None]:
    """Return query rows, (n, width) or empty, with embeddings and labels, and their positions if they are items."""
    if queries is not None:
        rows, labels = read_sample(suited(queries, version.encoder), QUERIES, seed)
        return rows, version.embed(rows), labels, None
    own = np.array(version.manifest.held, np.int64)
    if not len(own):
        own = version.embeddings.sample(QUERIES, seed)
    labels = [version.items.payload_at(int(i)).get("label") for i in own]
    return np.array(version.held), version.embeddings.at(own), labels, own


def _advice(measured: Measurement, encoding: EncoderQuality | None, target: float) -> str:
    advice = []
    if encoding and encoding.retrain:
        advice.append("retrain: the embedding keeps less of the rows than principal components would")
    if measured.high < max(target, GOOD):
        advice.append(f"raise the target: the index finds {measured.recall:.2f} of the embedding's neighbors")
    return "; and ".join(advice) or "neither the encoder nor the index loses more than it should"


def _held(version: Version, embeddings: Floats, nearest: Integers) -> int:
    """Count the queries whose nearest item has the same embedding, up to float32's rounding between blocks."""
    found = nearest >= 0
    items = version.embeddings.at(nearest[found])
    return int(np.isclose(items, embeddings[found], rtol=1e-5, atol=1e-5).all(axis=1).sum())
