import dataclasses
import json
from typing import get_args

import faiss
import numpy as np
import pytest

from index.spec import IndexSpec, Metric
from tests.index.made import cloud


def test_a_spec_survives_the_manifest() -> None:
    spec = IndexSpec("IVF512,SQfp16", "ip", "nprobe=8")
    assert IndexSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_what_faiss_takes_by_itself_is_searched_with_unless_more_is_said() -> None:
    assert IndexSpec("Flat", "l2").search == ""


@pytest.mark.parametrize("metric", get_args(Metric))
def test_the_metric_of_faiss_puts_unit_vectors_in_the_metrics_order(metric: Metric) -> None:
    """And for all but cosine, vectors of any length."""
    items, queries = cloud(50, 6), cloud(5, 6, seed=1)
    if metric == "cosine":
        items, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (items, queries))
    _, found = faiss.knn(queries, items, 50, IndexSpec("Flat", metric).faiss_metric)
    products, gaps = queries @ items.T, np.linalg.norm(queries[:, None] - items, axis=2)
    assert np.array_equal(found, np.argsort(gaps if metric == "l2" else -products, axis=1))
