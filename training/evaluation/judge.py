"""Scores of an embedding: the reconstruction error, and with labels, the precision of the neighbors' labels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.evaluation.untrained import descriptor_components
from lookalike.training.moves import background_of
from lookalike.training.robust import winsorized
from lookalike.training.transforms.shifted import shifted

__all__ = [
    "EncoderScore",
    "NoiseTest",
    "add_noise",
    "label_precision",
    "move",
    "score_descriptor",
    "score_encoder",
    "score_pca",
    "score_raw",
]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class NoiseTest:
    """Items to search, and queries that are not among them; all raw, (n, width) float32.

    `noisy` are the queries with noise, and `moved` are pictures moved by a pixel. Any label may be None.
    """

    items: Floats
    queries: Floats
    noisy: Floats
    item_labels: list[Any]
    query_labels: list[Any]
    moved: Floats | None = None


@dataclass(frozen=True)
class EncoderScore:
    """One line of the table; a precision is None if there are no labels or no such queries.

    The reconstruction error is NaN if nothing is reconstructed.
    """

    name: str
    reconstruction: float
    precision: float | None
    noisy_precision: float | None
    bytes_per_item: int
    moved_precision: float | None = None


def label_precision(
    items: Floats, item_labels: list[Any], queries: Floats, query_labels: list[Any], *, k: int = 10
) -> float | None:
    """Return the mean share of a query's k nearest items, by cosine, that have its label; None without labels."""
    if None in item_labels or None in query_labels:
        return None
    kinds = {label: number for number, label in enumerate(dict.fromkeys(map(str, [*item_labels, *query_labels])))}
    item_kinds = np.array([kinds[str(label)] for label in item_labels])
    query_kinds = np.array([kinds[str(label)] for label in query_labels])
    items, queries = items.copy(), queries.copy()
    faiss.normalize_L2(items)
    faiss.normalize_L2(queries)
    _, nearest = faiss.knn(queries, items, min(k, len(items)), metric=faiss.METRIC_INNER_PRODUCT)
    return float((item_kinds[nearest] == query_kinds[:, None]).mean())


def add_noise(rows: Floats, preprocess: Preprocessor, level: float = 0.3, seed: int = 0) -> Floats:
    """Return raw rows with Gaussian noise of standard deviation `level` noise units, clipped to the data's range.

    In a table, categories and missing values do not change.
    """
    generator = torch.Generator().manual_seed(seed)
    clean = preprocess.apply(torch.from_numpy(rows))
    noise = torch.randn(clean.shape, generator=generator) * level * preprocess.noise_unit
    noisy = preprocess.invert(torch.clamp(clean + noise, preprocess.low, preprocess.high)).numpy()
    numbers = [column.kind == "numeric" for column in preprocess.columns]
    return np.where(np.isnan(rows) | ~np.array(numbers), rows, noisy) if numbers else noisy


def move(rows: Floats, preprocess: Preprocessor, shape: tuple[int, ...], pixels: int = 1, seed: int = 0) -> Floats:
    """Return raw pictures, each moved by `pixels` to a random one of the eight sides; the others come in at the edge.

    Args:
        rows: (n, width) raw pictures.
        shape: (height, width) of a picture, or with the channels.
        pixels: how far; at most the shorter side.
    """
    pictures = preprocess.apply(torch.from_numpy(rows)) + preprocess.base
    fill = background_of(preprocess, pictures.mean(dim=0).reshape(*(*shape, 1)[:3]))
    moved = shifted(pictures.numpy(), shape, pixels=pixels, fill=fill, seed=seed)
    return preprocess.invert(torch.from_numpy(moved) - preprocess.base).numpy()


def score_encoder(name: str, encoder: Encoder, noise_test: NoiseTest) -> EncoderScore:
    """Score an artifact; the reconstruction error is in its preprocessed unit, over the rows that it does not clip."""
    apply, queries = _scaling(encoder.preprocess), _known(encoder.preprocess, noise_test.queries)
    error = _error(encoder.preprocess, apply(encoder.reconstruct(queries)), apply(queries))
    return _judge(name, encoder.encode, error, 4 * encoder.latent_dim, noise_test)


def score_pca(latent_dim: int, preprocess: Preprocessor, noise_test: NoiseTest, fit_on: Floats) -> EncoderScore:
    """Score the principal components of the preprocessed rows, the best linear autoencoder; no row dominates them."""
    from sklearn.decomposition import PCA

    apply = _scaling(preprocess)
    fitted = winsorized(apply(fit_on)).astype(np.float32)
    pca = PCA(min(latent_dim, *fitted.shape), random_state=0).fit(fitted)
    queries = apply(_known(preprocess, noise_test.queries))
    reconstructed = np.asarray(pca.inverse_transform(pca.transform(queries)), np.float32)
    if preprocess.mixed:  # each category becomes a known one, as in an encoder's output
        reconstructed = apply(preprocess.to(_CPU).invert(torch.from_numpy(reconstructed), shares=True).numpy())
    error = _error(preprocess, reconstructed, queries)

    def embed(rows: Floats) -> Floats:
        return np.ascontiguousarray(pca.transform(apply(rows)), np.float32)

    return _judge(f"PCA-{pca.n_components_}", embed, error, 4 * int(pca.n_components_), noise_test)


def score_descriptor(encoder: Encoder, noise_test: NoiseTest, fit_on: Floats) -> EncoderScore | None:
    """Score the principal components of the descriptor that an encoder reads; None if it reads none."""
    if not (components := descriptor_components(encoder, fit_on)):
        return None
    return _judge(components.name, components.embed, math.nan, 4 * components.dim, noise_test)


def score_raw(noise_test: NoiseTest, preprocess: Preprocessor | None = None) -> EncoderScore:
    """Score the rows themselves; rows with categories or gaps are scored as the features of `preprocess`."""
    gaps = any(np.isnan(part).any() for part in (noise_test.items, noise_test.queries))
    if preprocess and (preprocess.mixed or gaps):
        return _judge("preprocessed rows", _scaling(preprocess), 0.0, 4 * preprocess.features, noise_test)
    return _judge("raw rows", lambda rows: rows, 0.0, 4 * noise_test.items.shape[1], noise_test)


def _judge(
    name: str, embed: Callable[[Floats], Floats], error: float, size: int, noise_test: NoiseTest
) -> EncoderScore:
    items = embed(noise_test.items)
    clean, noisy, moved = (
        None
        if queries is None
        else label_precision(items, noise_test.item_labels, embed(queries), noise_test.query_labels)
        for queries in (noise_test.queries, noise_test.noisy, noise_test.moved)
    )
    return EncoderScore(name, error, clean, noisy, size, moved)


def _scaling(preprocess: Preprocessor) -> Callable[[Floats], Floats]:
    on_cpu = preprocess.to(_CPU)
    return lambda rows: on_cpu.apply(torch.from_numpy(rows)).numpy()


def _known(preprocess: Preprocessor, rows: Floats) -> Floats:
    """The rows without values outside the known range, of which one alone could dominate the error."""
    outside = np.unique(preprocess.outside(rows)[:, 0])
    return np.delete(rows, outside, axis=0) if len(outside) < len(rows) else rows


def _error(preprocess: Preprocessor, output: Floats, features: Floats) -> float:
    """The mean square error; for mixed columns, relative to the error of the best constant output."""
    error = float(np.mean(np.square(output - features, dtype=np.float64)))
    variance = float(np.var(features, axis=0, dtype=np.float64).mean()) if preprocess.mixed else 1.0
    return error / variance if variance else error
