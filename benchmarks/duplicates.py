"""How long does it take to find all near-duplicates of 60,000 items, and are all of them found?

Fashion-MNIST through an encoder of the shipped settings, 32 dimensions, unit length, two threads; at the automatic
threshold, and at a threshold that about ten times as many items reach.

peer    `range_search` of FAISS's flat index for the inner product, of all items at once; SciPy's
        `connected_components` joins its pairs
floor   the matrix products of each item with all, and nothing else
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.report import Bar, alternate, medians, report, row, seconds
from lookalike.index.ann.target import Target
from lookalike.index.ann.vectors import BLOCK_PAIRS
from lookalike.index.changes.collection import Collection
from lookalike.index.changes.duplicates import Duplicates, near_duplicates
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows

__all__ = ["main"]

ROUNDS = 3
WIDER = 0.03
"""How far the second threshold is below the automatic one, in similarity."""


def version_in(folder: Path) -> Version:
    """A version of the 60,000 training images, with an exact index."""
    rows, store = open_rows("fashion-mnist"), Store(folder / "store")
    train(rows, load_config(None, ["fit.epochs=10"]), folder / "run")
    return store.open(build(rows, folder / "run", store, target=Target(key="Flat")))


def by_range_search(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Return (n,): the group of each item."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    ends, _, found = index.range_search(vectors, threshold)
    counts = (ends[1:] - ends[:-1]).astype(np.int64)  # (n,), the number of each item's pairs
    pairs = np.ones(len(found), bool), (np.repeat(np.arange(len(vectors)), counts), found)
    labels: NDArray[np.int64] = connected_components(coo_array(pairs, shape=(len(vectors),) * 2), directed=False)[1]
    return labels


def products(vectors: NDArray[np.float32]) -> None:
    """The floor, in blocks of the same size."""
    size = BLOCK_PAIRS // len(vectors)
    for start in range(0, len(vectors), size):
        vectors[start : start + size] @ vectors.T


def differing(version: Version, found: Duplicates, labels: NDArray[np.int64]) -> int:
    """How many groups only one of the two found; pairs within float32's rounding of the threshold may differ."""
    sizes = np.bincount(labels)
    theirs = {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.flatnonzero(sizes > 1)}
    ours = {frozenset(version.items.positions(group.ids).tolist()) for group in found.groups}
    return len(theirs ^ ours)


def main() -> None:
    torch.set_num_threads(2)
    faiss.omp_set_num_threads(2)
    rows = []
    with TemporaryDirectory() as folder:
        version = version_in(Path(folder))
        collection = Collection(version)
        vectors = version.embeddings.at(np.arange(len(version.embeddings)))
        threshold = near_duplicates(collection).threshold
        for name, at in (("the automatic threshold", threshold), ("a lower one", threshold - WIDER)):
            found, labels = near_duplicates(collection, at), by_range_search(vectors, at)
            taken = medians(
                alternate(
                    {
                        "ours": lambda at=at: seconds(lambda: near_duplicates(collection, at)),  # type: ignore[misc]
                        "peer": lambda at=at: seconds(lambda: by_range_search(vectors, at)),  # type: ignore[misc]
                        "floor": lambda: seconds(lambda: products(vectors)),
                    },
                    ROUNDS,
                )
            )
            items = sum(len(group.ids) for group in found.groups)
            print(f"{at:.4f}: {len(found.groups):,} groups of {items:,} items")
            rows += [
                row(f"{len(vectors):,} items at {name}", "s", **taken, bar=Bar("ours", "<=", 60)),
                row(f"groups that only one found, at {name}", "groups", ours=differing(version, found, labels)),
            ]
    report("duplicates", rows)


if __name__ == "__main__":
    main()
