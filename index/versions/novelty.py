"""Novelty: a p-value of a query against held-out rows, from its reconstruction error and its neighbors' distance.

It is a conformal p-value (V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", 2005; S. Bates
et al., "Testing for Outliers with Conformal p-values", 2023): the share of rows that are at least as strange, counting
the query itself. For any measure of strangeness, at most a share alpha of the queries has a p-value of alpha or less,
if the queries come from the distribution of the calibration rows.

Strangeness follows R. A. Fisher ("Statistical Methods for Research Workers", 1932): for each quantity, the number of
rows that have as much or more, and the product of these numbers; a small product is strange. No common scale and no
weights are needed. The number by distance is used twice, because the distance contains two facts: how far the neighbors
are, and how far relative to the usual distance among them (M. Breunig et al., "LOF: Identifying Density-Based Local
Outliers", 2000).

For an exactly valid p-value, each calibration row would be compared with the query too. Here the calibration rows are
compared among themselves, once. That can only make p greater than the valid one; with 1,000 rows or more, hardly.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import drop_self
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.arrays import load_array
from lookalike.index.errors import QueryError
from lookalike.training.array_types import Booleans, Doubles, Floats, Integers
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.errors import ArtifactError
from lookalike.training.progress import progress_bar

__all__ = [
    "NEIGHBORS",
    "Novelty",
    "encode_with_errors",
    "item_distances",
    "load_novelty",
    "local_distances",
    "mean_distances",
]

NEIGHBORS = 10  # The number of nearest items whose distance is measured
_TINY = 1e-30
_BLOCK_ITEMS = 1 << 14
_SAMPLE = 1 << 16
_FEW = 4_096


@dataclass(frozen=True)
class Novelty:
    """Calibration rows, (n, 2) float64: the reconstruction error and the `local_distances` of each.

    The errors are 0 if the encoder has no decoder: then no query has an error, and only distances are compared.
    """

    rows: Doubles

    @classmethod
    def calibrate(cls, errors: Doubles | None, distances: Doubles) -> "Novelty":
        """Return the novelty for the values, (n,) and (n,), of held-out rows; n may be 0. Errors may be None.

        Neither the encoder nor the index may have seen these rows. Raises QueryError if the lengths differ, or a number
        is not finite.
        """
        distances = _measured("distances", distances)
        errors = np.zeros(len(distances)) if errors is None else errors
        rows = np.stack([_measured("errors", errors, len(distances)), distances], axis=1)  # (n, 2)
        if not np.isfinite(rows).all():
            raise QueryError("calibration rows", expected="finite errors and distances", found="infinity")
        return cls(rows)

    def p_values(self, errors: Doubles | None, distances: Doubles) -> Doubles:
        """(n,) and (n,) -> (n,) float64 from 1 / (rows + 1) to 1; it falls as an error or a distance rises.

        Without errors, only the distances are compared: an embedding has no error, and neither has a row of an encoder
        without a decoder. Without calibration rows every p-value is 1. Raises QueryError if the lengths differ, or a
        number is NaN.
        """
        by_distance = 1 + _at_least(self._distances, _measured("distances", distances))
        if errors is None:
            return by_distance / (len(self.rows) + 1)
        by_error = 1 + _at_least(self._errors, _measured("errors", errors, len(distances)))
        as_strange = self._products.searchsorted(by_error * by_distance**2)
        return (1 + as_strange) / (len(self.rows) + 1)

    def save(self, path: Path) -> None:
        """Write the rows as one array, for `load_novelty`."""
        np.save(path, self.rows, allow_pickle=False)

    @cached_property
    def _errors(self) -> Doubles:
        return np.sort(self.rows[:, 0])

    @cached_property
    def _distances(self) -> Doubles:
        return np.sort(self.rows[:, 1])

    @cached_property
    def _products(self) -> Integers:
        return np.sort(_at_least(self._errors, self.rows[:, 0]) * _at_least(self._distances, self.rows[:, 1]) ** 2)


def load_novelty(path: Path) -> Novelty:
    """Read what `Novelty.save` wrote, from a file that was verified. Raises ArtifactError if it is no such file."""
    remedy = "Build the version again."
    try:
        rows = load_array(io.BytesIO(path.read_bytes()))
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(str(path), expected="a NumPy array", found=str(error)) from error
    found = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != 2:
        raise ArtifactError(str(path), expected="float64 of shape (n, 2)", found=found, remedy=remedy)
    if not np.isfinite(rows).all():
        raise ArtifactError(str(path), expected="finite numbers", found="NaN or infinity", remedy=remedy)
    return Novelty(rows)


def encode_with_errors(encoder: RowEncoder, rows: Floats) -> tuple[Floats, Doubles | None]:
    """Return the output of `encode`, and the reconstruction errors, or None if the encoder has no decoder.

    (n, width) raw float32, NaN for a missing value of a table -> (n, latent_dim) float32 and (n,): the root of the mean
    square over a row's features, in the unit of the preprocessed rows; infinite if the reconstruction overflows.
    """
    latent, errors = encoder.encode_with_errors(rows)
    return latent, None if errors is None else np.where(np.isnan(errors), np.inf, errors)


def mean_distances(scores: Floats, metric: Metric) -> Doubles:
    """(n, k), a query's best scores in the metric's unit -> (n,) float64: the mean distance.

    Euclidean distances; for cosine, between vectors of unit length; for the inner product, minus the product. NaN means
    no hit and is skipped; a row without hits has an infinite distance.
    """
    exact = scores.astype(np.float64)
    if metric == "cosine":
        exact = np.sqrt(np.maximum(2 - 2 * exact, 0))
    return _means(-exact if metric == "ip" else exact, np.isnan(scores), none=np.inf)


def item_distances(embeddings: Embeddings, kept: int) -> Floats:
    """(n,) float32: the mean distance of each item to its NEIGHBORS nearest other items; 1 if there are none.

    The other items are a sample of 65,536 at most, of the `kept` first items. With more items, all distances shrink
    alike, so the sample is as good for comparisons.
    """
    known = embeddings.head(kept).sample(_SAMPLE, seed=0)
    index = _reference(embeddings.at(known), embeddings.metric)
    k = min(NEIGHBORS, len(known) - 1)
    distances = np.ones(len(embeddings), np.float32)
    with progress_bar("measuring distances", len(embeddings), "items", shown=len(embeddings) > 100_000) as advance:
        for start in range(0, len(embeddings) if k > 0 else 0, _BLOCK_ITEMS):
            items = np.arange(start, min(start + _BLOCK_ITEMS, len(embeddings)))
            place = np.minimum(np.searchsorted(known, items), len(known) - 1)
            own = np.where(known[place] == items, place, -1)  # the item's position in the sample, or -1
            scores, found = drop_self(*index.search(embeddings.at(items), k + 1), own, k)
            distances[items] = mean_distances(np.where(found >= 0, scores, np.float32(np.nan)), embeddings.metric)
            advance(len(items))
    return distances


def _reference(vectors: Floats, metric: Metric) -> VectorIndex:
    """Return an index over (n, dim), exact for few vectors and nearly exact for many."""
    key, search = ("Flat", "") if len(vectors) <= _FEW else (f"IVF{len(vectors) // 256},Flat", "nprobe=4")
    index = VectorIndex(IndexSpec(key, metric, search), vectors.shape[1])
    index.train(vectors)
    index.add(vectors)
    return index


def local_distances(scores: Floats, near: Floats, metric: Metric) -> Doubles:
    """(n,): the mean distance to a query's nearest items, divided by the root of these items' mean `item_distances`.

    `scores`, (n, k) float32 in the metric's unit, and `near`, (n, k) float32, their `item_distances`, are those of the
    query's NEIGHBORS nearest items. Up to a factor, this is the geometric mean of the distance and of the ratio between
    both. Inner products are no distances, so for them nothing is divided.
    """
    distances = mean_distances(scores, metric)
    if metric == "ip":
        return distances
    local_scale = _means(near.astype(np.float64), np.isnan(scores), none=0)
    return distances / np.sqrt(np.maximum(local_scale, _TINY))


def _means(values: Doubles, missing: Booleans, none: float) -> Doubles:
    """(n,): the mean of each row of (n, k) values without the missing ones; `none` if all are missing."""
    means: Doubles
    if values.shape[1] and not missing.any():  # the usual case; the code below takes as long as a search
        means = np.add.reduce(values, axis=1) / values.shape[1]
    else:
        counts = (~missing).sum(axis=1)
        means = np.where(counts > 0, np.where(missing, 0, values).sum(axis=1) / np.maximum(1, counts), none)
    return means


def _measured(name: str, values: Doubles, count: int | None = None) -> Doubles:
    """Return (n,) values as float64. Raises QueryError if the shape is wrong or a value is NaN."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or count not in (None, len(values)):
        raise QueryError(name, f"shape ({'n' if count is None else count},)", found=f"{values.shape}")
    if np.isnan(values).any():
        raise QueryError(name, expected="numbers", found="NaN")
    return values


def _at_least(kept: Doubles, values: Doubles) -> Integers:
    """(n,): how many of the sorted `kept` are at least as great as each value."""
    return len(kept) - kept.searchsorted(values)
