"""Map embeddings of an older version into the space of a newer version, and measure how much the neighbors changed.

Two encoders of the same data differ at least by a rotation, because training does not fix the axes. So two maps are
fitted: a rotation (P. Schönemann, "A Generalized Solution of the Orthogonal Procrustes Problem", Psychometrika 31,
1966), of embeddings padded with zeros if the dimensions differ, and a linear map, by ridge regression. The map with the
better recall for held-out rows is kept; if both are equal, the rotation, which cannot overfit.

alignment.npz in a version holds a map, float32 (d_old, d_new), for each older version, named by its number. Maps are
composed: from a grandparent's space to the parent's, and from the parent's to the new one.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy

from lookalike.index.ann.neighbor_metrics import neighbors_kept_per_row
from lookalike.index.ann.recall import K
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import nearest
from lookalike.index.arrays import ONE_HEAD, load_array
from lookalike.index.errors import QueryError
from lookalike.index.versions.embed import in_metric
from lookalike.training.array_types import Doubles, Floats
from lookalike.training.errors import ArtifactError
from lookalike.training.robust import weights

__all__ = ["ALIGNMENT", "FEWEST", "Map", "churn", "compose", "fit_map", "load_maps", "mapped", "save_maps"]

ALIGNMENT = "alignment.npz"
FEWEST = 20
"""The fewest items to fit a map with; a fifth of the items is held out to measure its recall."""
MOST_ASKED = 1_000
MOST_ITEMS = 50_000
"""Neighbors are searched among at most this many items: a sample, if there are more."""
RIDGE = 1e-4
"""Relative to the mean square of an old dimension: it matters only for directions in which the old ones do not vary."""
TOLERANCE = 1e-5

Kind = Literal["orthogonal", "linear"]


@dataclass(frozen=True)
class Map:
    """A map from an old latent space to a new one.

    Attributes:
        matrix: (d_old, d_new) float32; an old embedding is multiplied by it, and normalized if the metric is cosine.
        recall: for each kind, the share of the 10 nearest new embeddings of a row's new embedding that its mapped old
            embedding finds, by exact search.
        asked: the number of held-out rows that the recall was measured with.
    """

    matrix: Floats
    kind: Kind
    recall: dict[Kind, float]
    asked: int


def fit_map(old: Floats, new: Floats, metric: Metric, seed: int = 0) -> Map:
    """Fit both kinds of map, measure their recall with held-out items, and return the better map.

    `old`, (n, d_old), and `new`, (n, d_new), are the embeddings of the same items, from `index.versions.embed.embed`.
    Raises QueryError for fewer than 20 items, different lengths, or numbers that are not finite.
    """
    _check_pairs(old, new, FEWEST)
    order = np.random.default_rng(seed).permutation(len(old))
    asked, fitted = np.split(order, [min(MOST_ASKED, len(old) // 5)])
    gallery = new[fitted]
    kinds: dict[Kind, Floats] = {}
    kinds["orthogonal"], kinds["linear"] = _orthogonal(old[fitted], gallery), _linear(old[fitted], gallery)
    recall: dict[Kind, float] = {
        kind: _recall(mapped(old[asked], matrix, metric), new[asked], gallery, metric) for kind, matrix in kinds.items()
    }
    best: Kind = "linear" if recall["linear"] > recall["orthogonal"] else "orthogonal"
    return Map(kinds[best], best, recall, len(asked))


def mapped(embeddings: Floats, matrix: Floats, metric: Metric) -> Floats:
    """(n, d_old) -> (n, d_new), of unit length if the metric is cosine. Raises QueryError for another dimension."""
    if embeddings.ndim != 2 or embeddings.shape[1] != len(matrix):
        raise QueryError("embeddings", expected=f"shape (n, {len(matrix)})", found=str(embeddings.shape))
    return in_metric(embeddings @ matrix, metric)


def compose(parent_maps: Mapping[int, Floats], parent: int, matrix: Floats) -> dict[int, Floats]:
    """Return the maps of a new version: `matrix`, (d_parent, d_new), and the maps of its parent times that matrix."""
    return {parent: matrix, **{number: older @ matrix for number, older in parent_maps.items()}}


def churn(old: Floats, new: Floats, metric: Metric, k: int = K, *, seed: int = 0) -> float:
    """Return the share of an item's k nearest neighbors that changed: 0 if all are the same, or if there is one item.

    It is the mean over 1,000 items, drawn by the seed. Neighbors are searched exactly, among all items or a sample of
    50,000. Neighbors with equal distances are treated as in `index.ann.neighbor_metrics.neighbors_kept_per_row`. `old`,
    (n, d_old), and `new`, (n, d_new), are the embeddings of the same items. Raises QueryError for different lengths, or
    numbers that are not finite.
    """
    _check_pairs(old, new, 0)
    some = np.sort(np.random.default_rng(seed).permutation(len(old))[:MOST_ITEMS])
    if len(some) < 2:
        return 0.0
    asked = np.sort(np.random.default_rng(seed).permutation(len(some))[:MOST_ASKED])
    return 1 - float(neighbors_kept_per_row(old[some], new[some], metric, k, by=metric, asked=asked).mean())


def save_maps(path: Path, maps: Mapping[int, Floats]) -> None:
    """Write the maps by the number of their older version, for `load_maps`."""
    np.savez(path, allow_pickle=False, **{str(number): matrix.astype(np.float32) for number, matrix in maps.items()})


def load_maps(path: Path, dim: int) -> dict[int, Floats]:
    """Read the file of `save_maps`: maps to a space of `dim` dimensions.

    Raises ArtifactError if it is damaged. No more memory is allocated than the file has bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return {
                int(entry.filename.removesuffix(".npy")): _read(archive, entry, dim) for entry in archive.infolist()
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        expected = f"float32 maps (d, {dim}) by an older version's number"
        raise ArtifactError(str(path), expected, str(error), "Restore it from a copy, or retrain.") from error


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, dim: int) -> Floats:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    content = archive.read(entry)
    file = io.BytesIO(content)
    if npy.read_magic(file) != (1, 0):
        raise ValueError(f"{entry.filename} has an unknown .npy format")
    with ONE_HEAD:
        shape, _, dtype = npy.read_array_header_1_0(file)
    if dtype != np.float32 or len(shape) != 2 or shape[1] != dim:
        raise ValueError(f"{entry.filename} is {dtype} {shape}")
    if 4 * math.prod(shape) != len(content) - file.tell():
        raise ValueError(f"{entry.filename} has {len(content) - file.tell()} bytes for {shape}")
    matrix: Floats = load_array(io.BytesIO(content))
    if not np.isfinite(matrix).all():
        raise ValueError(f"{entry.filename} has NaN or infinity")
    return matrix


def _orthogonal(old: Floats, new: Floats) -> Floats:
    """(d_old, d_new), with orthonormal rows or columns, whichever are fewer."""
    from scipy.linalg import orthogonal_procrustes

    dim = max(old.shape[1], new.shape[1])
    padded = [np.pad(each, ((0, 0), (0, dim - each.shape[1]))) for each in _weighted(old, new)]
    rotation: Doubles = orthogonal_procrustes(*padded)[0]  # (dim, dim)
    return rotation[: old.shape[1], : new.shape[1]].astype(np.float32)


def _linear(old: Floats, new: Floats) -> Floats:
    """(d_old, d_new) by ridge regression."""
    a, b = _weighted(old, new)
    products = a.T @ a  # (d_old, d_old)
    ridge = max(RIDGE * float(np.trace(products)) / len(products), 1e-30)
    matrix: Floats = np.linalg.solve(products + ridge * np.eye(len(products)), a.T @ b).astype(np.float32)
    return matrix


def _weighted(old: Floats, new: Floats) -> tuple[Doubles, Doubles]:
    """Return both in float64; a pair with a long vector has less weight (training.robust), so no pair dominates."""
    least = np.minimum(weights(old), weights(new))
    return old.astype(np.float64) * least, new.astype(np.float64) * least


def _recall(moved: Floats, new: Floats, gallery: Floats, metric: Metric) -> float:
    """Return the share of the K nearest gallery embeddings of each new embedding that its mapped embedding finds.

    A hit counts if it is as near to the new embedding as the K-th nearest, because ties have no order.
    """
    found = nearest(moved, gallery, K, metric)[1]
    last = nearest(new, gallery, K, metric)[1][:, -1:]  # (n, 1)
    gaps = _gaps(new, gallery[found], metric)  # (n, K)
    limit = _gaps(new, gallery[last], metric)  # (n, 1)
    return float((gaps <= limit + TOLERANCE * np.abs(limit) + 1e-12).mean())


def _gaps(some: Floats, others: Floats, metric: Metric) -> Doubles:
    """(n, d), (n, k, d) -> (n, k), smaller for nearer pairs."""
    exact = some.astype(np.float64)[:, None, :]
    gaps: Doubles
    gaps = -(exact * others).sum(axis=2) if metric == "ip" else np.linalg.norm(exact - others, axis=2)
    return gaps


def _check_pairs(old: Floats, new: Floats, fewest: int) -> None:
    if old.ndim != 2 or new.ndim != 2 or len(old) != len(new) or len(old) < fewest:
        expected = f"(n, d) of the same items, n >= {fewest}"
        raise QueryError("embeddings", expected=expected, found=f"{old.shape} and {new.shape}")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise QueryError("embeddings", expected="finite numbers", found="NaN or infinity")
