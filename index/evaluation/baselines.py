"""Ways to embed rows that a trained encoder is held against, and the one unit in which all are compared.

The unit is fitted on rows, not taken from an encoder, whose own scaling may be the very thing that is wrong: pixels of
a picture are centred and share one deviation, columns of numbers have each its own, categories and missing values are
features of 0 and 1 (training.artifact.preprocess).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.training.artifact.encoder import Encoder
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.evaluation.untrained import untrained
from lookalike.training.robust import shortened

__all__ = [
    "Embedder",
    "FeatureSpace",
    "by_encoder",
    "by_pca",
    "by_raw_rows",
    "by_untrained",
    "fit_feature_space",
    "recoded",
]

Floats = NDArray[np.float32]
MOST_FITTED = 10_000
"""Rows that components are fitted on."""


@dataclass(frozen=True)
class Embedder:
    """A way to embed: raw (n, width) -> (n, dim), and back to features of the unit; None where nothing is lost."""

    name: str
    embed: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats] | None


@dataclass(frozen=True)
class FeatureSpace:
    """The unit of raw rows as the encoder `like` takes them."""

    like: Encoder
    preprocess: Preprocessor

    def features(self, rows: Floats) -> Floats:
        """(n, width) raw -> (n, features)."""
        made: Floats = self.preprocess.apply(torch.from_numpy(rows)).numpy()
        return made


def fit_feature_space(rows: Floats, like: Encoder) -> FeatureSpace:
    """Of raw rows, (n, width), of the shape and the columns that `like` takes; rows that it clips do not count."""
    outside = np.unique(like.preprocess.outside(rows)[:, 0])
    rows = np.delete(rows, outside, axis=0) if len(outside) < len(rows) else rows
    picture = len(like.input_shape) > 1 and not like.columns
    return FeatureSpace(like, fit_preprocessor(rows, "center" if picture else "standard", like.columns))


def by_encoder(name: str, encoder: Encoder, unit: FeatureSpace) -> Embedder:
    """By an encoder, which may know other columns, or categories by other codes, than the unit's rows."""

    def embed(rows: Floats) -> Floats:
        return encoder.encode(recoded(rows, unit.like, encoder))

    return Embedder(name, embed, lambda latent: unit.features(recoded(encoder.decode(latent), encoder, unit.like)))


def by_untrained(encoder: Encoder, unit: FeatureSpace, seed: int = 0) -> Embedder:
    """By an encoder of the same architecture that learnt nothing."""
    return by_encoder("untrained", untrained(encoder, seed), unit)


def by_raw_rows(unit: FeatureSpace) -> Embedder:
    """By the rows themselves, standardised."""
    return Embedder("raw rows", unit.features, None)


def by_pca(dim: int, unit: FeatureSpace, rows: Floats) -> Embedder:
    """By at most `dim` principal components of the raw rows, (n, width); of many, of a sample.

    Rows far from the others are moved towards them first (training.robust), so that none dominates the components.
    """
    some = rows[np.random.default_rng(0).permutation(len(rows))[:MOST_FITTED]]
    features = shortened(unit.features(some))
    mean = features.mean(axis=0)
    few = min(dim, *features.shape)
    if features.shape[0] < features.shape[1]:
        axes = np.linalg.svd(features - mean, full_matrices=False)[2][:few]  # (dim, features)
    else:
        axes = np.linalg.eigh(np.cov(features, rowvar=False).reshape(features.shape[1], -1))[1].T[::-1][:few]

    def embed(asked: Floats) -> Floats:
        latent: Floats = ((unit.features(asked) - mean) @ axes.T).astype(np.float32)  # (n, dim)
        return latent

    def back(latent: Floats) -> Floats:
        again: Floats = (latent @ axes + mean).astype(np.float32)  # (n, features)
        if not unit.preprocess.mixed:
            return again
        return unit.features(unit.preprocess.invert(torch.from_numpy(again), shares=True).numpy())

    return Embedder(f"PCA-{few}", embed, back)


def recoded(rows: Floats, given: Encoder, wanted: Encoder) -> Floats:
    """Raw rows as the encoder `given` takes them -> as `wanted` does: columns by name, categories by value.

    NaN, missing, where a row has no such column or `wanted` knows no such category. Rows without columns stay.
    """
    if given.columns == wanted.columns or not (given.columns and wanted.columns):
        return rows
    places = {column.name: place for place, column in enumerate(given.columns)}
    made = np.full((len(rows), len(wanted.columns)), np.nan, np.float32)
    for number, column in enumerate(wanted.columns):
        place = places.get(column.name)
        if place is None or (column.kind == "numeric") != (given.columns[place].kind == "numeric"):
            continue
        values = rows[:, place]
        if column.kind != "numeric":
            codes = [column.codes.get(value, np.nan) for value in given.columns[place].values]
            values = np.array([*codes, np.nan], np.float32)[np.where(np.isnan(values), -1, values).astype(np.int64)]
        made[:, number] = values
    return made
