"""Ask a version how good it is, now, and where it loses: on the way into the embedding, or in the index.

rows -> embedding    does the encoder keep the rows' neighbours and, with labels, their kinds
(index.evaluation.quality)? embedding -> index   does the index find the embedding's neighbours, and how fast
(index.ann.recall)?
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.recall import Measurement, RecallBenchmark
from lookalike.index.evaluation.quality import EncoderQuality, mean_share, recovery, rows_to_embedding
from lookalike.index.versions.embed import suited
from lookalike.index.versions.version import Version
from lookalike.training.rows import Rows, read_sample

__all__ = ["EvaluationResult", "evaluate"]

QUERIES = 1_000
GOOD = 0.95
"""Recall below which the index loses more than it needs to, whatever was asked for."""


@dataclass(frozen=True)
class EvaluationResult:
    """What was asked and found.

    Attributes:
        measured: what the index finds of the embedding's neighbours.
        encoding: what the embedding keeps of the rows; None where the version holds none out, and none were given.
        recovered: the mean share of damaged rows that find their original, over rising damage; None likewise.
        precision: the mean share of a query's hits that have its label; None without labels.
        held: how many queries find an item of exactly their embedding: rows that the version holds flatter it.
        advice: what to do about the half that loses more than it should.
    """

    measured: Measurement
    encoding: EncoderQuality | None
    recovered: float | None
    precision: float | None
    held: int
    advice: str


def evaluate(version: Version, queries: Rows | None = None, seed: int = 0) -> EvaluationResult:
    """Measure with `queries`, or without any with rows that were held out, which are items by now: none finds itself.

    Raises:
        DataError: the queries are not such as the encoder takes.
    """
    rows, embeddings, labels, own = _asked(version, queries, seed)
    measured, found = RecallBenchmark(version.embeddings, embeddings, own).take(version.index)
    hits = [[version.items.payload_at(int(p)).get("label") for p in row if p >= 0] for row in found]
    known = [(label, row) for label, row in zip(labels, hits, strict=True) if label is not None and row]
    shares = [row.count(label) / len(row) for label, row in known]
    encoding = rows_to_embedding(version.encoder, rows, version.metric, labels) if len(rows) else None
    recovered = mean_share(recovery(version.encoder, rows, version.metric)) if len(rows) else None
    return EvaluationResult(
        measured,
        encoding,
        recovered,
        float(np.mean(shares)) if shares else None,
        0 if queries is None else _held(version, embeddings, found[:, 0]),
        _advice(measured, encoding, version.manifest.tuning.target.recall),
    )


def _asked(
    version: Version, queries: Rows | None, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Any], NDArray[np.int64] | None]:
    """Rows (n, width), or none of them, their embeddings and labels, and which items they are."""
    if queries is not None:
        rows, labels = read_sample(suited(queries, version.encoder), QUERIES, seed)
        return rows, version.embed(rows), labels, None
    own = np.array(version.manifest.held, np.int64)
    if not len(own):
        own = version.embeddings.sample(QUERIES, seed)
    labels = [version.items.payload_at(int(i)).get("label") for i in own]
    return np.array(version.held), version.embeddings.at(own), labels, own


def _advice(measured: Measurement, encoding: EncoderQuality | None, asked: float) -> str:
    """About each half by itself."""
    said = []
    if encoding and encoding.retrain:
        said.append("retrain: the embedding keeps less of the rows than principal components would")
    if measured.high < max(asked, GOOD):
        said.append(f"raise the target: the index finds {measured.recall:.2f} of the embedding's neighbours")
    return "; and ".join(said) or "neither half loses more than it should"


def _held(version: Version, embeddings: NDArray[np.float32], nearest: NDArray[np.int64]) -> int:
    """Encoded in another block, a row's embedding is the same to float32's rounding."""
    some = nearest >= 0
    items = version.embeddings.at(nearest[some])
    return int(np.isclose(items, embeddings[some], rtol=1e-5, atol=1e-5).all(axis=1).sum())
