"""Which index, over which metric, searched how."""

from dataclasses import dataclass
from typing import Literal

import faiss

__all__ = ["IndexSpec", "Metric"]

Metric = Literal["cosine", "l2", "ip"]


@dataclass(frozen=True)
class IndexSpec:
    """What to build; it stands in the version's manifest.

    Scores, best first: cosine similarity and inner product fall, Euclidean distance (l2) rises.

    Attributes:
        key: FAISS's own description of an index, as `faiss.index_factory` takes it: "IVF512,SQfp16".
        search: how it is searched, as "nprobe=8,k_factor=4"; empty leaves what FAISS takes by itself.
    """

    key: str
    metric: Metric
    search: str = ""

    @property
    def faiss_metric(self) -> int:
        """Of unit vectors, the nearest by cosine are those by Euclidean distance, which FAISS quantises better for."""
        return int(faiss.METRIC_INNER_PRODUCT if self.metric == "ip" else faiss.METRIC_L2)
