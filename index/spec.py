"""Which index, over which metric. To add a kind: a line in `KINDS`, and its name in `Kind`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import faiss

__all__ = ["KINDS", "IndexChoice", "IndexSpec", "Kind", "Metric", "choose_spec"]

Kind = Literal["flat", "hnsw"]
IndexChoice = Literal["auto", "flat", "hnsw"]
Metric = Literal["cosine", "l2", "ip"]

FLAT_LIMIT = 10_000
"""Up to this many items a flat index is exact and fast enough."""


@dataclass(frozen=True)
class IndexSpec:
    """What to build; it stands in the version's manifest.

    Scores, best first: cosine similarity and inner product fall, Euclidean distance (l2) rises.
    """

    kind: Kind
    metric: Metric
    m: int = 32
    ef_construction: int = 200
    ef_search: int = 32

    @property
    def faiss_metric(self) -> int:
        """Cosine is the inner product of vectors of unit length."""
        return int(faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def choose_spec(count: int, metric: Metric, kind: IndexChoice = "auto") -> IndexSpec:
    """What was chosen, or for "auto" flat for few items and HNSW for many."""
    if kind == "auto":
        kind = "flat" if count <= FLAT_LIMIT else "hnsw"
    return IndexSpec(kind, metric)


def _flat(dim: int, spec: IndexSpec) -> faiss.Index:
    return faiss.IndexFlatL2(dim) if spec.metric == "l2" else faiss.IndexFlatIP(dim)


def _hnsw(dim: int, spec: IndexSpec) -> faiss.Index:
    """Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search", 2018."""
    graph = faiss.IndexHNSWFlat(dim, spec.m, spec.faiss_metric)
    graph.hnsw.efConstruction = spec.ef_construction
    graph.hnsw.efSearch = spec.ef_search
    return graph


KINDS: dict[Kind, Callable[[int, IndexSpec], faiss.Index]] = {"flat": _flat, "hnsw": _hnsw}
