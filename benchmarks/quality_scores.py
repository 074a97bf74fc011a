"""Figures of an embedding for `benchmarks.quality`, and the changed queries that it is judged on: pure functions."""

import faiss
import numpy as np

from lookalike.training.array_types import Doubles, Floats, Integers

__all__ = ["accuracy", "eight_bits", "moved", "nearest", "nearest_by", "noisy", "precision", "recall_same", "unit"]

_DIRECTIONS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


def unit(vectors: Floats) -> Floats:
    """Return (n, dim) vectors of length one; a vector of zeros stays zero."""
    vectors = np.array(vectors, np.float32, order="C")
    faiss.normalize_L2(vectors)
    return vectors


def nearest(items: Floats, queries: Floats, k: int, *, cosine: bool = True) -> Integers:
    """Return the positions of the k nearest items of each query, (m, k), by exact search; else by Euclidean distance.

    `k` is at most the number of items.
    """
    if cosine:
        items, queries = unit(items), unit(queries)
    metric = faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2
    contiguous = (np.ascontiguousarray(part, np.float32) for part in (queries, items))
    positions: Integers = faiss.knn(*contiguous, min(k, len(items)), metric=metric)[1]
    return positions


def nearest_by(distances: Floats | Doubles, k: int) -> Integers:
    """Return the positions of the k least distances of each query, (m, k), of distances (m, items)."""
    positions: Integers = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return positions


def precision(found: Integers, item_labels: Integers, query_labels: Integers) -> float:
    """Return the share of found items (m, k) that have the label of their query."""
    return float((item_labels[found] == query_labels[:, None]).mean())


def accuracy(found: Integers, item_labels: Integers, query_labels: Integers) -> float:
    """Return the share of queries whose label most of the found items (m, k) have; a tie goes to the nearest item."""
    votes = item_labels[found]  # (m, k)
    counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)  # (m, k): the items that vote alike
    winners = votes[np.arange(len(votes)), counts.argmax(axis=1)]
    return float((winners == query_labels).mean())


def recall_same(found: Integers, same: Integers, k: int) -> float:
    """Return the share of queries whose item `same` (m,) is among the first k found items of (m, >= k)."""
    return float((found[:, :k] == same[:, None]).any(axis=1).mean())


def noisy(rows: Floats, sigma: float, greatest: float, seed: int) -> Floats:
    """Return rows with Gaussian noise of `sigma` times the range from 0 to `greatest`, clipped to that range."""
    noise = np.random.default_rng(seed).standard_normal(rows.shape, np.float32)
    changed: Floats = np.clip(rows + np.float32(sigma * greatest) * noise, 0, greatest, dtype=np.float32)
    return changed


def moved(rows: Floats, shape: tuple[int, int], pixels: int, seed: int) -> Floats:
    """Return pictures (n, height * width), each moved in one of the eight directions, drawn by the seed; 0 fills in."""
    directions = np.random.default_rng(seed).integers(len(_DIRECTIONS), size=len(rows))
    return shifted(rows, shape, _DIRECTIONS[directions] * pixels)


def shifted(rows: Floats, shape: tuple[int, int], steps: Integers) -> Floats:
    """Return pictures (n, height * width), each moved by its step, (n, 2): pixels down and to the right."""
    height, width = shape
    most = int(np.abs(steps).max(initial=0))
    padded = np.pad(rows.reshape(-1, height, width), ((0, 0), (most, most), (most, most)))
    down, right = (most - steps[:, axis, None] + np.arange(shape[axis]) for axis in (0, 1))  # (n, height), (n, width)
    picked: Floats = padded[
        np.arange(len(rows))[:, None, None], down[:, :, None], right[:, None, :]
    ]  # (n, height, width)
    return picked.reshape(len(rows), -1)


def eight_bits(vectors: Floats) -> Floats:
    """Return (n, dim) vectors after rounding to 8 bits: equal steps from the least to the greatest of a dimension."""
    quantizer = faiss.ScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit)
    vectors = np.ascontiguousarray(vectors, np.float32)
    quantizer.train(vectors)
    decoded: Floats = quantizer.decode(quantizer.compute_codes(vectors))
    return decoded
