"""Where recall is lost before the index: does the embedding keep what the rows say? It needs no labels.

Two questions. Are a row's neighbours still its neighbours (L. Chen and A. Buja, "Local Multidimensional Scaling",
JASA 104, 2009, with their correction for chance), beside what PCA of the same dimension keeps of them? And is a row
found again by a damaged copy of itself? `benchmarks/label_free.py` holds both against the labels' precision.
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
    each_found_again,
    each_kept,
    relevant_shares,
    same_label,
)
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.versions.embed import embed
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.robust import shortened

__all__ = [
    "SEVERITIES",
    "EncoderQuality",
    "KeptShare",
    "features_of",
    "found_again",
    "mean_share",
    "neighbours_kept",
    "recovery",
    "rows_to_embedding",
    "swapped",
]

SEVERITIES = (0.1, 0.2, 0.3, 0.4, 0.5)
MOST_ROWS, FEWEST_LABELS = 2_000, 30
LEAST_NEIGHBOURS, LEAST_LABELS = 0.85, 0.9
"""Of what PCA keeps beyond chance: an encoder that keeps a smaller share is worse than it."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class KeptShare:
    """The share of a row's k nearest by the embedding that are right, beside two yardsticks.

    Attributes:
        encoder, pca: by the encoder, and by principal components of the same number and metric.
        chance: by an embedding that is the same for all rows.
        error: the standard error of the difference between encoder and PCA, row by row.
    """

    encoder: float
    pca: float
    chance: float
    error: float

    def worse(self, least: float) -> bool:
        """Does the encoder keep less than `least` of what PCA keeps beyond chance, and is that no chance itself?"""
        less = self.encoder - self.chance < least * (self.pca - self.chance)
        return less and self.pca - self.encoder > 2 * self.error


@dataclass(frozen=True)
class EncoderQuality:
    """How much of the rows' neighbours the embedding keeps, and with labels, how much of their kinds."""

    neighbours: KeptShare
    labels: KeptShare | None

    @property
    def retrain(self) -> bool:
        """Is the encoder clearly worse than PCA: by the labels where there are any, else by the neighbours?"""
        return self.labels.worse(LEAST_LABELS) if self.labels else self.neighbours.worse(LEAST_NEIGHBOURS)


def rows_to_embedding(
    encoder: Encoder,
    rows: Floats,
    metric: Metric,
    labels: Sequence[Any] | None = None,
    *,
    k: int = 10,
    seed: int = 0,
) -> EncoderQuality:
    """What the encoder keeps of rows that it was not trained on, beside PCA of the same dimension.

    The seed parts the rows in two. Each half has its neighbours within itself, and the other's components: of few
    rows, components of their own would keep nearly all.

    Args:
        rows: (n, width) raw; where there are more than 2,000, a sample.
        labels: n of them, None where a row has none; they count where thirty have one, of two kinds at least.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_ROWS])
    features, embeddings = features_of(encoder, rows[chosen]), embed(encoder, rows[chosen], metric)

    def near(some: NDArray[np.int64]) -> Relevance:
        return among_nearest(features[some], k)

    neighbours = _kept(features, embeddings, near, metric, k=k, seed=seed)
    kinds = [None if labels is None or labels[i] is None else str(labels[i]) for i in chosen]
    known = np.array([i for i, kind in enumerate(kinds) if kind is not None], np.int64)
    names = np.array([str(kinds[i]) for i in known])
    if len(names) < FEWEST_LABELS or len(set(names.tolist())) < 2:
        return EncoderQuality(neighbours, None)

    def alike(some: NDArray[np.int64]) -> Relevance:
        return same_label(names[some])

    return EncoderQuality(neighbours, _kept(features[known], embeddings[known], alike, metric, k=k, seed=seed))


def neighbours_kept(features: NDArray[Any], embeddings: NDArray[Any], metric: Metric = "cosine", k: int = 10) -> float:
    """The share of each row's k nearest others by the embedding that are so in the preprocessed rows too.

    Neighbours at one distance have no order. Those of a row that are as near as its k-th all count; of the
    embedding's, such as compete for the last places share them, so that a constant embedding keeps what chance does.

    Args:
        features: (n, features), compared by Euclidean distance.
        embeddings: (n, latent), as `index.versions.embed.embed` gives them: of unit length for cosine.
        k: of fewer rows, all the others; 1.0 where there are none.
    """
    return float(each_kept(features, embeddings, metric, k).mean()) if len(features) > 1 else 1.0


def recovery(
    encoder: Encoder,
    rows: Floats,
    metric: Metric,
    *,
    gallery: Floats | None = None,
    severities: Sequence[float] = SEVERITIES,
    k: int = 10,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """How often a damaged row finds its original among its k nearest: (severity, share) for each severity.

    Equal rows count as one. One draw serves all severities: what one has damaged, the next one leaves so.

    Args:
        rows: (n, width) raw, held out; where there are more than 2,000, a sample.
        gallery: (m, latent) embeddings of other items to search as well; each severity compares n with n + m.
    """
    some = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_ROWS])]
    _, first = np.unique(features_of(encoder, some), axis=0, return_index=True)
    distinct = some[np.sort(first)]
    limits = encoder.preprocess.limits
    damaged = [swapped(distinct, severity, seed, limits=limits) for severity in severities]
    return [
        (severity, found_again(encoder, distinct, each, metric, gallery=gallery, k=k))
        for severity, each in zip(severities, damaged, strict=True)
    ]


def mean_share(curve: Sequence[tuple[float, float]]) -> float:
    """The one number of a `recovery`: the mean over its severities."""
    return float(np.mean([share for _, share in curve]))


def swapped(rows: Floats, severity: float, seed: int = 0, *, limits: tuple[Floats, Floats] | None = None) -> Floats:
    """Raw (n, width) with a share `severity` of the values taken from another row, each from one of its own.

    It needs no unit, and suits categories and missing values as well as numbers. J. Yoon et al., "VIME", 2020.

    Args:
        limits: (width,) each, the least and the greatest value that another row may give; None for any value. With
            limits, a row far from all others does not spoil the copies of other rows.
    """
    if len(rows) < 2:
        return rows
    rng = np.random.default_rng(seed)
    further = rng.integers(1, len(rows), rows.shape)  # never the row itself
    hit = rng.random(rows.shape) < severity
    others = np.take_along_axis(rows, (np.arange(len(rows))[:, None] + further) % len(rows), axis=0)  # (n, width)
    if limits is not None:
        hit &= ~((others < limits[0]) | (others > limits[1]))
    return np.where(hit, others, rows)


def found_again(
    encoder: Encoder, clean: Floats, damaged: Floats, metric: Metric, *, gallery: Floats | None = None, k: int = 10
) -> float:
    """The share of `damaged` rows, (n, width) raw, that find their `clean` one among their k nearest.

    Args:
        gallery: (m, latent) embeddings to search beside those of all clean rows.
    """
    originals = embed(encoder, clean, metric)
    chances = each_found_again(originals, embed(encoder, damaged, metric), metric, gallery=gallery, k=k)
    return float(chances.mean()) if len(clean) else 1.0


def features_of(encoder: Encoder, rows: Floats) -> Floats:
    """(n, width) raw, NaN where missing -> (n, features) float32 and finite, preprocessed as the encoder takes them."""
    features: Floats = encoder.preprocess.to(torch.device("cpu")).apply(torch.from_numpy(rows)).numpy()
    return features


def _kept(
    features: Floats,
    embeddings: Floats,
    right: Callable[[NDArray[np.int64]], Relevance],
    metric: Metric,
    *,
    k: int,
    seed: int,
) -> KeptShare:
    """Half by half; of fewer than four rows, in which there is nothing to lose, all."""
    if len(features) < 4:
        return KeptShare(1.0, 1.0, 1.0, 0.0)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(features)), 2)
    shares = []
    for asked, fitted in (halves, halves[::-1]):
        components = _pca(features[fitted], features[asked], embeddings.shape[1])
        flat = normalize(components) if metric == "cosine" else components
        each = embeddings[asked], flat, np.zeros((len(asked), 1), np.float32)
        few = min(k, len(asked) - 1)
        shares.append([relevant_shares(points, right(asked), metric, few) for points in each])
    ours, pca, chance = (np.concatenate(same) for same in zip(*shares, strict=True))  # (n,) each
    error = float((ours - pca).std(ddof=1) / np.sqrt(len(ours)))
    return KeptShare(float(ours.mean()), float(pca.mean()), float(chance.mean()), error)


def _pca(fitted: Floats, asked: Floats, dim: int) -> Doubles:
    """(m, at most dim): the rows `asked` along the first principal components of others, of which none dominates."""
    near = shortened(fitted)
    mean = near.mean(axis=0)
    directions = np.linalg.svd(near - mean, full_matrices=False)[2][:dim]
    components: Doubles = (asked - mean) @ directions.T
    return components
