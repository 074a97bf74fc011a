"""How unusual is a query? A p-value against held-out rows, from its reconstruction error and its neighbours' distance.

The conformal p-value (V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", 2005; R. Laxhammar
and G. Falkman, "Conformal Prediction for Distribution-Independent Anomaly Detection in Streaming Vessel Data", 2010;
S. Bates et al., "Testing for Outliers with Conformal p-values", 2023): the share of rows that are at least as strange,
the query among them. Whatever the measure of strangeness, it is at most alpha for a share alpha, or less, of queries
that come from where the calibration rows came from.

Strangeness is after R. A. Fisher ("Statistical Methods for Research Workers", 1932): of each quantity, how many rows
have as much or more, and the product of the counts, the less the stranger; there is no scale to share and no weight to
fit. The count by distance is a factor twice, for the distance says two things: how far the neighbours are, and how far
beside what is usual among them (as in M. Breunig et al., "LOF: Identifying Density-Based Local Outliers", 2000).

Were the query counted whichever row is judged, all would be treated alike, and the p-value valid. Calibration rows
are judged by themselves, once and for all; a row that was no less strange than the query then has a smaller product
than the query's. So p is never smaller than the valid one; of 1,000 rows or more it is hardly greater.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import drop_own
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.arrays import load_array
from lookalike.index.errors import QueryError
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.errors import ArtifactError
from lookalike.training.progress import progress_bar

__all__ = [
    "NEIGHBOURS",
    "Novelty",
    "encode_with_errors",
    "item_distances",
    "load_novelty",
    "local_distances",
    "mean_distances",
    "reconstruction_errors",
]

NEIGHBOURS = 10
"""So many nearest items tell a query's distance."""
_TINY = 1e-30
_BLOCK_VALUES = 1 << 22
_BLOCK_ITEMS = 1 << 14
_SAMPLE = 1 << 16
_FEW = 4_096
_SHOWN = 100_000

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Novelty:
    """Calibration rows, (n, 2) float64: the `reconstruction_errors` and the `local_distances` of each."""

    rows: Reals

    @classmethod
    def calibrate(cls, errors: Reals, distances: Reals) -> "Novelty":
        """Of held-out rows, (n,) and (n,), that neither the encoder nor the index has seen; n may be 0.

        Raises:
            QueryError: not as many of one as of the other, or a number that is not finite.
        """
        distances = _measured("distances", distances)
        rows = np.stack([_measured("errors", errors, len(distances)), distances], axis=1)  # (n, 2)
        if not np.isfinite(rows).all():
            raise QueryError("calibration rows", expected="finite errors and distances", found="infinity")
        return cls(rows)

    def p_values(self, errors: Reals | None, distances: Reals) -> Reals:
        """(n,) and (n,) -> (n,) float64 in (0, 1]: falls as either rises, and the smallest is 1 / (rows + 1).

        Without errors (of a query that is an embedding, and no row) the distance alone tells, against the
        distances of the calibration rows. Without calibration rows all are 1.

        Raises:
            QueryError: not as many of one as of the other, or NaN among them.
        """
        by_distance = 1 + _at_least(self._distances, _measured("distances", distances))
        if errors is None:
            return by_distance / (len(self.rows) + 1)
        by_error = 1 + _at_least(self._errors, _measured("errors", errors, len(distances)))
        as_strange = self._products.searchsorted(by_error * by_distance**2)
        return (1 + as_strange) / (len(self.rows) + 1)

    def save(self, path: Path) -> None:
        """As one array that `load_novelty` reads."""
        np.save(path, self.rows, allow_pickle=False)

    @cached_property
    def _errors(self) -> Reals:
        return np.sort(self.rows[:, 0])

    @cached_property
    def _distances(self) -> Reals:
        return np.sort(self.rows[:, 1])

    @cached_property
    def _products(self) -> NDArray[np.int64]:
        return np.sort(_at_least(self._errors, self.rows[:, 0]) * _at_least(self._distances, self.rows[:, 1]) ** 2)


def load_novelty(path: Path) -> Novelty:
    """Read what `Novelty.save` wrote, from a file that was verified.

    Raises:
        ArtifactError: not an array, or not the one that it must be.
    """
    try:
        rows = load_array(io.BytesIO(path.read_bytes()))
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(str(path), expected="a NumPy array", found=str(error)) from error
    found = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != 2:
        raise ArtifactError(
            str(path), expected="float64 of shape (n, 2)", found=found, remedy="Build the version again."
        )
    if not np.isfinite(rows).all():
        raise ArtifactError(
            str(path), expected="finite numbers", found="NaN or infinity", remedy="Build the version again."
        )
    return Novelty(rows)


def reconstruction_errors(encoder: Encoder, rows: NDArray[np.float32]) -> Reals:
    """(n, width) raw float32, of a table NaN where missing -> (n,) float64, in the unit of the preprocessed rows.

    The root of the mean square over a row's features; infinite where the decoder's answer leaves the numbers.
    """
    return encode_with_errors(encoder, rows)[1]


def encode_with_errors(encoder: Encoder, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], Reals]:
    """(n, width) raw float32 -> (n, latent_dim) float32 as `encode` gives it, and the `reconstruction_errors`, (n,)."""
    errors: NDArray[np.float32] | Reals
    if encoder.preprocess.table is None:
        latent, errors = encoder.encode_with_errors(rows)
    else:
        latent = encoder.encode(rows)
        errors = _of_table(encoder, rows, latent)
    return latent, np.where(np.isnan(errors), np.inf, errors)


@np.errstate(over="ignore", invalid="ignore")  # a row may be so odd that its reconstruction is no number
def _of_table(encoder: Encoder, rows: NDArray[np.float32], latent: NDArray[np.float32]) -> Reals:
    errors = np.empty(len(rows))
    size = max(1, _BLOCK_VALUES // max(1, encoder.preprocess.features))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        back = np.where(np.isnan(block), block, encoder.decode(latent[start : start + size]))  # missing is not wrong
        gaps = _features(encoder, back).astype(np.float64) - _features(encoder, block)  # (block, features)
        errors[start : start + size] = np.sqrt(np.mean(np.square(gaps), axis=1))
    return errors


def mean_distances(scores: NDArray[np.float32], metric: Metric) -> Reals:
    """(n, k), a query's best scores in the metric's unit -> (n,) float64: their mean as distances.

    Euclidean distances, under cosine between vectors of unit length; of the inner product, which tells none, it is
    minus the product. NaN, no hit, does not count; infinite where there is none.
    """
    exact = scores.astype(np.float64)
    if metric == "cosine":
        exact = np.sqrt(np.maximum(2 - 2 * exact, 0))
    return _means(-exact if metric == "ip" else exact, np.isnan(scores), none=np.inf)


def item_distances(embeddings: Embeddings, kept: int) -> NDArray[np.float32]:
    """(n,) float32: of each item the mean distance to its NEIGHBOURS nearest others; 1 where there is no other.

    Others of a sample of 65,536 at most, which is as good to compare by: many items lie nearer everywhere alike.

    Args:
        kept: how many of the items, the first, may be in the sample.
    """
    known = embeddings.head(kept).sample(_SAMPLE, seed=0)
    index = _reference(embeddings.at(known), embeddings.metric)
    k = min(NEIGHBOURS, len(known) - 1)
    distances = np.ones(len(embeddings), np.float32)
    with progress_bar("learning what is usual", len(embeddings), "items", shown=len(embeddings) > _SHOWN) as advance:
        for start in range(0, len(embeddings) if k > 0 else 0, _BLOCK_ITEMS):
            items = np.arange(start, min(start + _BLOCK_ITEMS, len(embeddings)))
            place = np.minimum(np.searchsorted(known, items), len(known) - 1)
            own = np.where(known[place] == items, place, -1)  # where an item stands in the sample, if it does
            scores, found = drop_own(*index.search(embeddings.at(items), k + 1), own, k)
            distances[items] = mean_distances(np.where(found >= 0, scores, np.float32(np.nan)), embeddings.metric)
            advance(len(items))
    return distances


def _reference(vectors: NDArray[np.float32], metric: Metric) -> VectorIndex:
    """Of (n, dim): exact of few, and of many nearly so."""
    exact = len(vectors) <= _FEW
    key, search = ("Flat", "") if exact else (f"IVF{len(vectors) // 256},Flat", "nprobe=4")
    index = VectorIndex(IndexSpec(key, metric, search), vectors.shape[1])
    index.train(vectors)
    index.add(vectors)
    return index


def local_distances(scores: NDArray[np.float32], near: NDArray[np.float32], metric: Metric) -> Reals:
    """The mean distance to a query's nearest items, over the root of what is usual among them.

    That is the geometric mean of the distance and of its ratio to theirs, but for the scale. Inner products tell no
    distance, and theirs is not asked.

    Args:
        scores: (n, k) float32, of the query's NEIGHBOURS nearest items, in the metric's unit.
        near: (n, k) float32, those items' own `item_distances`.
    """
    distances = mean_distances(scores, metric)
    if metric == "ip":
        return distances
    local_scale = _means(near.astype(np.float64), np.isnan(scores), none=0)
    return distances / np.sqrt(np.maximum(local_scale, _TINY))


def _means(values: Reals, missing: NDArray[np.bool_], none: float) -> Reals:
    """(n,): of each row's values, (n, k), those that are not missing; `none` where there is none."""
    means: Reals
    if values.shape[1] and not missing.any():  # as nearly always; what follows takes as long as a search
        means = np.add.reduce(values, axis=1) / values.shape[1]
        return means
    there = ~missing
    totals = np.where(there, values, 0).sum(axis=1)
    means = np.where(there.any(axis=1), totals / np.maximum(1, there.sum(axis=1)), none)
    return means


def _features(encoder: Encoder, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        features: NDArray[np.float32] = (
            encoder.preprocess.apply(torch.from_numpy(rows).to(encoder.device)).cpu().numpy()
        )
    return features


def _measured(name: str, values: Reals, count: int | None = None) -> Reals:
    """(n,) as float64, or a QueryError: another shape, or NaN."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) != (len(values) if count is None else count):
        wanted = "(n,)" if count is None else f"({count},)"
        raise QueryError(name, expected=f"shape {wanted}", found=f"{values.shape}")
    if np.isnan(values).any():
        raise QueryError(name, expected="numbers", found="NaN")
    return values


def _at_least(kept: Reals, values: Reals) -> NDArray[np.int64]:
    """(n,): how many of `kept`, sorted, are as great as each value or greater."""
    return len(kept) - kept.searchsorted(values)
