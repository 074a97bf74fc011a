"""Baseline embedders to compare a trained encoder with, and a common feature space for the comparison.

The feature space is fitted on rows and not taken from an encoder, whose scaling may be what is wrong. Pixels of a
picture are centered and share one deviation, the samples of a channel of windows share a mean and a deviation, numeric
columns have one deviation each, and categories and missing values are features of 0 and 1
(training.artifact.preprocess).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.robust import winsorized
from lookalike.training.transforms import WindowTransform

__all__ = ["Embedder", "FeatureSpace", "by_encoder", "by_pca", "fit_feature_space", "recoded"]

MOST_FITTED = 10_000
"""The most rows that principal components are fitted on."""


@dataclass(frozen=True)
class Embedder:
    """A function that embeds raw rows, (n, width) -> (n, dim), and its reconstruction to features; None if exact."""

    name: str
    embed: Callable[[Floats], Floats]
    reconstruct: Callable[[Floats], Floats] | None


@dataclass(frozen=True)
class FeatureSpace:
    """The feature space of raw rows with the columns of the encoder `like`."""

    like: Encoder
    preprocess: Preprocessor

    def features(self, rows: Floats) -> Floats:
        """(n, width) raw -> (n, features)."""
        features: Floats = self.preprocess.apply(torch.from_numpy(rows)).numpy()
        return features


def fit_feature_space(rows: Floats, like: Encoder) -> FeatureSpace:
    """Fit the feature space to raw rows, (n, width), with the columns of `like`, without rows that `like` clips."""
    outside = np.unique(like.preprocess.outside(rows)[:, 0])
    rows = np.delete(rows, outside, axis=0) if len(outside) < len(rows) else rows
    if isinstance(like.transform, WindowTransform):
        return FeatureSpace(like, fit_preprocessor(rows, "channel", windows=like.transform))
    picture = len(like.input_shape) > 1 and not like.columns
    return FeatureSpace(like, fit_preprocessor(rows, "center" if picture else "standard", like.columns))


def by_encoder(name: str, encoder: Encoder, unit: FeatureSpace) -> Embedder:
    """Return the embedder of an encoder, which may have other columns or category codes than the rows of the unit."""

    def embed(rows: Floats) -> Floats:
        return encoder.encode(recoded(rows, unit.like, encoder))

    return Embedder(name, embed, lambda latent: unit.features(recoded(encoder.decode(latent), encoder, unit.like)))


def by_pca(dim: int, unit: FeatureSpace, rows: Floats) -> Embedder:
    """Return the embedder of at most `dim` principal components of raw rows, (n, width), fitted on a sample if many.

    Outliers are first moved towards the other rows (training.robust), so that none dominates the components.
    """
    sample = rows[np.random.default_rng(0).permutation(len(rows))[:MOST_FITTED]]
    features = winsorized(unit.features(sample))
    mean = features.mean(axis=0)
    count = min(dim, *features.shape)
    if features.shape[0] < features.shape[1]:
        axes = np.linalg.svd(features - mean, full_matrices=False)[2][:count]  # (count, features)
    else:
        axes = np.linalg.eigh(np.cov(features, rowvar=False).reshape(features.shape[1], -1))[1].T[::-1][:count]

    def embed(rows: Floats) -> Floats:
        latent: Floats = ((unit.features(rows) - mean) @ axes.T).astype(np.float32)  # (n, count)
        return latent

    def reconstruct(latent: Floats) -> Floats:
        restored: Floats = (latent @ axes + mean).astype(np.float32)  # (n, features)
        if not unit.preprocess.mixed:
            return restored
        return unit.features(unit.preprocess.invert(torch.from_numpy(restored), shares=True).numpy())

    return Embedder(f"PCA-{count}", embed, reconstruct)


def recoded(rows: Floats, source: Encoder, target: Encoder) -> Floats:
    """Convert raw rows for the encoder `source` to rows for `target`: columns by name, categories by value.

    A value is NaN (missing) if `source` has no such column or `target` no such category. Rows of an encoder without
    columns stay unchanged.
    """
    if source.columns == target.columns or not (source.columns and target.columns):
        return rows
    positions = {column.name: position for position, column in enumerate(source.columns)}
    result = np.full((len(rows), len(target.columns)), np.nan, np.float32)
    for number, column in enumerate(target.columns):
        position = positions.get(column.name)
        if position is None or (column.kind == "numeric") != (source.columns[position].kind == "numeric"):
            continue
        values = rows[:, position]
        if column.kind != "numeric":
            codes = [column.codes.get(value, np.nan) for value in source.columns[position].values]
            values = np.array([*codes, np.nan], np.float32)[np.where(np.isnan(values), -1, values).astype(np.int64)]
        result[:, number] = values
    return result
