"""Embeddings from an older version, in a newer one's space; and how much the neighbours changed between the two.

Two encoders of the same data differ by a rotation at least, for nothing in training names an axis. So a rotation is
fitted first (P. Schönemann, "A Generalized Solution of the Orthogonal Procrustes Problem", Psychometrika 31, 1966), of
embeddings that are padded with zeros where the dimensions differ, and then any linear map, by ridge regression. The
one that finds more, asked with rows that neither was fitted on, is kept; of equals the rotation, which cannot overfit.

alignment.npz in a version holds a map, float32 (d_old, d_new), for each older version, named by its number. Maps
follow on each other: an embedding of a grandparent goes by the parent's map of it, and then by the parent's own.
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
from numpy.typing import NDArray

from lookalike.index.ann.neighbor_metrics import each_kept
from lookalike.index.ann.recall import K
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import nearest
from lookalike.index.arrays import ONE_HEAD, load_array
from lookalike.index.errors import QueryError
from lookalike.index.versions.embed import in_metric
from lookalike.training.errors import ArtifactError
from lookalike.training.robust import weights

__all__ = ["ALIGNMENT", "FEWEST", "Map", "churn", "compose", "fit_map", "load_maps", "mapped", "save_maps"]

ALIGNMENT = "alignment.npz"
FEWEST = 20
"""Items from which a map is fitted, and asked with a fifth of them."""
MOST_ASKED = 1_000
MOST_ITEMS = 50_000
"""Among which the neighbours are, of more a sample."""
RIDGE = 1e-4
"""Of the mean square of an old dimension: it decides only where the old embeddings leave a direction open."""
TOLERANCE = 1e-5

Vectors = NDArray[np.float32]
Kind = Literal["orthogonal", "linear"]


@dataclass(frozen=True)
class Map:
    """From an old latent space to a new one.

    Attributes:
        matrix: (d_old, d_new) float32; an old embedding times it, and to unit length where the metric is cosine.
        recall: of each kind, the share of the 10 nearest new embeddings to a row's new embedding that its mapped old
            one finds, by exact search.
        asked: of how many rows, on which neither kind was fitted.
    """

    matrix: Vectors
    kind: Kind
    recall: dict[Kind, float]
    asked: int


def fit_map(old: Vectors, new: Vectors, metric: Metric, seed: int = 0) -> Map:
    """Fit both kinds on most of the items, ask both with the others, and return the better.

    Args:
        old, new: (n, d_old) and (n, d_new), the embeddings of the same items, as `index.versions.embed.embed` gives
        them.

    Raises:
        QueryError: fewer than twenty items, not as many of one as of the other, or numbers that are not finite.
    """
    _check_pairs(old, new, FEWEST)
    order = np.random.default_rng(seed).permutation(len(old))
    asked, fitted = np.split(order, [min(MOST_ASKED, len(old) // 5)])
    gallery = new[fitted]
    kinds: dict[Kind, Vectors] = {
        "orthogonal": _orthogonal(old[fitted], gallery),
        "linear": _linear(old[fitted], gallery),
    }
    recall: dict[Kind, float] = {
        kind: _recall(mapped(old[asked], matrix, metric), new[asked], gallery, metric) for kind, matrix in kinds.items()
    }
    best: Kind = "linear" if recall["linear"] > recall["orthogonal"] else "orthogonal"
    return Map(kinds[best], best, recall, len(asked))


def mapped(embeddings: Vectors, matrix: Vectors, metric: Metric) -> Vectors:
    """(n, d_old) in the old space -> (n, d_new) in the new one, of unit length where the metric is cosine.

    Raises:
        QueryError: embeddings of another dimension than the old space has.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != len(matrix):
        raise QueryError("embeddings", expected=f"shape (n, {len(matrix)})", found=str(embeddings.shape))
    return in_metric(embeddings @ matrix, metric)


def compose(parent_maps: Mapping[int, Vectors], parent: int, matrix: Vectors) -> dict[int, Vectors]:
    """The maps of a new version: its parent's, (d_parent, d_new), and through it those that the parent has."""
    return {parent: matrix, **{number: older @ matrix for number, older in parent_maps.items()}}


def churn(old: Vectors, new: Vectors, metric: Metric, k: int = K, *, seed: int = 0) -> float:
    """The share of an item's k nearest others that are others now: 0 where all stayed.

    Of 1,000 items, drawn by the seed, among all; of more than 50,000, among a sample. Exact; neighbours at one
    distance count as `index.evaluation.quality.neighbours_kept` has them. 0 where there is one item or none.

    Args:
        old, new: (n, d_old) and (n, d_new), the embeddings of the same items.

    Raises:
        QueryError: not as many of one as of the other, or numbers that are not finite.
    """
    _check_pairs(old, new, 0)
    some = np.sort(np.random.default_rng(seed).permutation(len(old))[:MOST_ITEMS])
    if len(some) < 2:
        return 0.0
    asked = np.sort(np.random.default_rng(seed).permutation(len(some))[:MOST_ASKED])
    return 1 - float(each_kept(old[some], new[some], metric, k, by=metric, asked=asked).mean())


def save_maps(path: Path, maps: Mapping[int, Vectors]) -> None:
    """As a file that `load_maps` reads."""
    np.savez(path, allow_pickle=False, **{str(number): matrix.astype(np.float32) for number, matrix in maps.items()})


def load_maps(path: Path, dim: int) -> dict[int, Vectors]:
    """Read what `save_maps` wrote, from a file that was verified: the maps to a space of `dim` dimensions.

    Raises:
        ArtifactError: not such a file; nothing is allocated that the file has not the bytes for.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return {
                int(entry.filename.removesuffix(".npy")): _read(archive, entry, dim) for entry in archive.infolist()
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ArtifactError(
            str(path),
            expected=f"float32 maps (d, {dim}) by an older version's number",
            found=str(error),
            remedy="Restore it from a copy, or retrain.",
        ) from error


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, dim: int) -> Vectors:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    content = archive.read(entry)
    file = io.BytesIO(content)
    if npy.read_magic(file) != (1, 0):
        raise ValueError(f"{entry.filename} is of another format")
    with ONE_HEAD:
        shape, _, dtype = npy.read_array_header_1_0(file)
    if dtype != np.float32 or len(shape) != 2 or shape[1] != dim:
        raise ValueError(f"{entry.filename} is {dtype} {shape}")
    if 4 * math.prod(shape) != len(content) - file.tell():
        raise ValueError(f"{entry.filename} has {len(content) - file.tell()} bytes for {shape}")
    matrix: Vectors = load_array(io.BytesIO(content))
    if not np.isfinite(matrix).all():
        raise ValueError(f"{entry.filename} has NaN or infinity")
    return matrix


def _orthogonal(given: Vectors, wanted: Vectors) -> Vectors:
    """(d_old, d_new), of orthonormal rows or columns, whichever are fewer or as many."""
    from scipy.linalg import orthogonal_procrustes

    old, new = _weighted(given, wanted)
    dim = max(old.shape[1], new.shape[1])
    wide = [np.pad(one, ((0, 0), (0, dim - one.shape[1]))) for one in (old, new)]
    rotation: NDArray[np.float64] = orthogonal_procrustes(*wide)[0]  # (dim, dim)
    return rotation[: old.shape[1], : new.shape[1]].astype(np.float32)


def _linear(old: Vectors, new: Vectors) -> Vectors:
    """(d_old, d_new) by ridge regression."""
    a, b = _weighted(old, new)
    products = a.T @ a  # (d_old, d_old)
    ridge = max(RIDGE * float(np.trace(products)) / len(products), 1e-30)
    matrix: Vectors = np.linalg.solve(products + ridge * np.eye(len(products)), a.T @ b).astype(np.float32)
    return matrix


def _weighted(old: Vectors, new: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in float64; a pair with a long vector weighs less (training.robust), so that no pair dominates."""
    least = np.minimum(weights(old), weights(new))
    return old.astype(np.float64) * least, new.astype(np.float64) * least


def _recall(moved: Vectors, wanted: Vectors, gallery: Vectors, metric: Metric) -> float:
    """The share of the nearest of `gallery` to each wanted embedding that the moved one beside it finds.

    What is found counts where it is as near to the wanted one as the last of its nearest: equals have no order.
    """
    found = nearest(moved, gallery, K, metric)[1]
    last = nearest(wanted, gallery, K, metric)[1][:, -1:]  # (n, 1)
    gaps = _gaps(wanted, gallery[found], metric)  # (n, K)
    limit = _gaps(wanted, gallery[last], metric)  # (n, 1)
    return float((gaps <= limit + TOLERANCE * np.abs(limit) + 1e-12).mean())


def _gaps(some: Vectors, others: Vectors, metric: Metric) -> NDArray[np.float64]:
    """(n, d), (n, k, d) -> (n, k), less where nearer."""
    exact = some.astype(np.float64)[:, None, :]
    if metric == "ip":
        products: NDArray[np.float64] = (exact * others).sum(axis=2)
        return -products
    gaps: NDArray[np.float64] = np.sqrt(np.square(exact - others).sum(axis=2))
    return gaps


def _check_pairs(old: Vectors, new: Vectors, fewest: int) -> None:
    if old.ndim != 2 or new.ndim != 2 or len(old) != len(new) or len(old) < fewest:
        expected = f"(n, d) of the same items, n >= {fewest}"
        raise QueryError("embeddings", expected=expected, found=f"{old.shape} and {new.shape}")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise QueryError("embeddings", expected="finite numbers", found="NaN or infinity")
