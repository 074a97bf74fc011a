"""Measure how much of the rows an embedding keeps, without labels: the recall that is lost before the index.

Two measures. How many of a row's neighbors are still its neighbors, compared with PCA of the same dimension (L. Chen
and A. Buja, "Local Multidimensional Scaling", JASA 104, 2009, with their correction for chance)? And does a damaged
copy of a row find the row? `benchmarks/label_free.py` compares both with the precision by labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.index.ann.neighbor_metrics import (
    Relevance,
    among_nearest,
    neighbors_kept_per_row,
    recovery_per_row,
    relevant_shares,
    same_label,
)
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.versions.embed import embed
from lookalike.training.array_types import Doubles, Floats, Integers
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.robust import winsorized

__all__ = [
    "SEVERITIES",
    "EncoderQuality",
    "KeptShare",
    "features_of",
    "mean_share",
    "neighbors_kept",
    "recovery",
    "recovery_share",
    "rows_to_embedding",
    "swapped",
]

SEVERITIES = (0.1, 0.2, 0.3, 0.4, 0.5)
MOST_ROWS, FEWEST_LABELS = 2_000, 30
LEAST_NEIGHBOURS, LEAST_LABELS = 0.85, 0.9
"""An encoder that keeps a smaller share of what PCA keeps beyond chance is worse than PCA."""


@dataclass(frozen=True)
class KeptShare:
    """The share of relevant rows among the k nearest, for an encoder and two baselines.

    Attributes:
        encoder, pca: for the encoder, and for as many principal components with the same metric.
        chance: for an embedding that is the same for all rows.
        error: the standard error of the difference between encoder and PCA, paired by row.
    """

    encoder: float
    pca: float
    chance: float
    error: float

    def worse(self, least: float) -> bool:
        """Whether the encoder keeps significantly less than the share `least` of what PCA keeps beyond chance."""
        less = self.encoder - self.chance < least * (self.pca - self.chance)
        return less and self.pca - self.encoder > 2 * self.error


@dataclass(frozen=True)
class EncoderQuality:
    """How many of the rows' neighbors the embedding keeps, and, with labels, how many neighbors of equal label."""

    neighbours: KeptShare
    labels: KeptShare | None

    @property
    def retrain(self) -> bool:
        """Whether the encoder is clearly worse than PCA: by labels if there are any, else by neighbors."""
        return self.labels.worse(LEAST_LABELS) if self.labels else self.neighbours.worse(LEAST_NEIGHBOURS)


def rows_to_embedding(
    encoder: RowEncoder,
    rows: Floats,
    metric: Metric,
    labels: Sequence[Any] | None = None,
    *,
    k: int = 10,
    seed: int = 0,
) -> EncoderQuality:
    """Measure what the encoder keeps of rows that it was not trained on, compared with PCA of the same dimension.

    The seed splits the rows into halves. Neighbors are searched within a half, and its principal components are fitted
    on the other half: components fitted on the same few rows would keep nearly all neighbors.

    Args:
        rows: (n, width) raw; a sample is used if there are more than 2,000.
        labels: n labels, None for a row without one; used if at least thirty rows have a label and two labels occur.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_ROWS])
    features, embeddings = features_of(encoder, rows[chosen]), embed(encoder, rows[chosen], metric)

    neighbors = _kept(features, embeddings, lambda rows: among_nearest(features[rows], k), metric, k, seed)
    classes = [None if labels is None or labels[i] is None else str(labels[i]) for i in chosen]
    labeled = np.flatnonzero([name is not None for name in classes])
    names = np.array([str(classes[i]) for i in labeled])
    if len(names) < FEWEST_LABELS or len(set(names.tolist())) < 2:
        return EncoderQuality(neighbors, None)
    kept = _kept(features[labeled], embeddings[labeled], lambda rows: same_label(names[rows]), metric, k, seed)
    return EncoderQuality(neighbors, kept)


def neighbors_kept(features: NDArray[Any], embeddings: NDArray[Any], metric: Metric = "cosine", k: int = 10) -> float:
    """Return the mean share of a row's k nearest neighbors by embedding that are also nearest by preprocessed row.

    Neighbors at equal distances have no order. By row, all that are as near as the k-th count; by embedding, those that
    compete for the last places count as fractions, so that a constant embedding has the result of chance.

    Args:
        features: (n, features), compared by Euclidean distance.
        embeddings: (n, latent), as returned by `index.versions.embed.embed`: of unit length for cosine.
        k: limited to all other rows. The result is 1.0 if there are none.
    """
    return float(neighbors_kept_per_row(features, embeddings, metric, k).mean()) if len(features) > 1 else 1.0


def recovery(
    encoder: RowEncoder,
    rows: Floats,
    metric: Metric,
    *,
    gallery: Floats | None = None,
    severities: Sequence[float] = SEVERITIES,
    k: int = 10,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """Return how often a damaged row finds its original among its k nearest: (severity, share) for each severity.

    Equal rows count as one. All severities use the same random numbers: a value damaged at one severity is damaged at
    all higher ones.

    Args:
        rows: (n, width) raw, held out; a sample is used if there are more than 2,000.
        gallery: (m, latent) embeddings of other items to search too; each severity compares n with n + m.
    """
    sample = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_ROWS])]
    _, first = np.unique(features_of(encoder, sample), axis=0, return_index=True)
    distinct = sample[np.sort(first)]
    curve = []
    for severity in severities:
        damaged = swapped(distinct, severity, seed, limits=encoder.preprocess.limits)
        curve.append((severity, recovery_share(encoder, distinct, damaged, metric, gallery=gallery, k=k)))
    return curve


def mean_share(curve: Sequence[tuple[float, float]]) -> float:
    """Return the mean share of a `recovery` over its severities."""
    return float(np.mean([share for _, share in curve]))


def swapped(rows: Floats, severity: float, seed: int = 0, *, limits: tuple[Floats, Floats] | None = None) -> Floats:
    """Replace a share `severity` of the values of raw rows, (n, width), by values of other, randomly drawn rows.

    This needs no scale, and works for categories and missing values too. J. Yoon et al., "VIME", 2020.

    Args:
        limits: (width,) each, the least and the greatest value to copy to another row; None means any value. With
            limits, an outlier does not spoil the copies of other rows.
    """
    if len(rows) < 2:
        return rows
    rng = np.random.default_rng(seed)
    offset = rng.integers(1, len(rows), rows.shape)  # never the row itself
    replaced = rng.random(rows.shape) < severity
    others = np.take_along_axis(rows, (np.arange(len(rows))[:, None] + offset) % len(rows), axis=0)  # (n, width)
    if limits is not None:
        replaced &= ~((others < limits[0]) | (others > limits[1]))
    return np.where(replaced, others, rows)


def recovery_share(
    encoder: RowEncoder, clean: Floats, damaged: Floats, metric: Metric, *, gallery: Floats | None = None, k: int = 10
) -> float:
    """Return the share of `damaged` rows, (n, width) raw, that find their `clean` row among their k nearest.

    `gallery`: (m, latent) more embeddings to search, in addition to those of all clean rows.
    """
    originals = embed(encoder, clean, metric)
    chances = recovery_per_row(originals, embed(encoder, damaged, metric), metric, gallery=gallery, k=k)
    return float(chances.mean()) if len(clean) else 1.0


def features_of(encoder: RowEncoder, rows: Floats) -> Floats:
    """(n, width) raw, NaN if missing -> (n, features) finite float32, preprocessed for the encoder."""
    features: Floats = encoder.preprocess.to(torch.device("cpu")).apply(torch.from_numpy(rows)).numpy()
    return features


def _kept(
    features: Floats, embeddings: Floats, relevance: Callable[[Integers], Relevance], metric: Metric, k: int, seed: int
) -> KeptShare:
    """Measure the kept share in both halves of the rows; fewer than four rows keep everything."""
    if len(features) < 4:
        return KeptShare(1.0, 1.0, 1.0, 0.0)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(features)), 2)
    shares = []
    for evaluated, fitted in (halves, halves[::-1]):
        components = _pca(features[fitted], features[evaluated], embeddings.shape[1])
        baseline = normalize(components) if metric == "cosine" else components
        spaces = embeddings[evaluated], baseline, np.zeros((len(evaluated), 1), np.float32)
        count = min(k, len(evaluated) - 1)
        shares.append([relevant_shares(points, relevance(evaluated), metric, count) for points in spaces])
    encoder, pca, chance = (np.concatenate(parts) for parts in zip(*shares, strict=True))  # (n,) each
    error = float((encoder - pca).std(ddof=1) / np.sqrt(len(encoder)))
    return KeptShare(float(encoder.mean()), float(pca.mean()), float(chance.mean()), error)


def _pca(fitted: Floats, rows: Floats, dim: int) -> Doubles:
    """Project `rows` to the first principal components of `fitted`, without influence of outliers: (m, <= dim)."""
    limited = winsorized(fitted)
    mean = limited.mean(axis=0)
    directions = np.linalg.svd(limited - mean, full_matrices=False)[2][:dim]
    components: Doubles = (rows - mean) @ directions.T
    return components
