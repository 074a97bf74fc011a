import dataclasses
import json
from typing import get_args

import faiss
import numpy as np
import pytest

from lookalike.index.ann.candidates import KINDS
from lookalike.index.ann.spec import MAX_KEY, IndexSpec, Metric, key_problem
from tests.factories import cloud


def test_a_spec_round_trips_through_json() -> None:
    spec = IndexSpec("IVF512,SQfp16", "ip", "nprobe=8")
    assert IndexSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_search_parameters_default_to_those_of_faiss() -> None:
    assert IndexSpec("Flat", "l2").search == ""


@pytest.mark.parametrize("metric", get_args(Metric))
def test_the_faiss_metric_orders_unit_vectors_like_the_metric(metric: Metric) -> None:
    """For l2 and ip, it orders vectors of any length."""
    items, queries = cloud(50, 6), cloud(5, 6, seed=1)
    if metric == "cosine":
        items, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (items, queries))
    _, found = faiss.knn(queries, items, 50, IndexSpec("Flat", metric).faiss_metric)
    products, gaps = queries @ items.T, np.linalg.norm(queries[:, None] - items, axis=2)
    assert np.array_equal(found, np.argsort(gaps if metric == "l2" else -products, axis=1))


COMMON_KEYS = (
    "Flat",
    "HNSW64",
    "IVF65536_HNSW32,SQfp16",
    "OPQ16_64,IVF1048576_HNSW32,PQ16x4fs,RFlat",
    "PCA64,IMI2x8,PQ8",
    "LSH",
)


@pytest.mark.parametrize("key", [*COMMON_KEYS, *(kind.key_for(1_000_000, 64) for kind in KINDS)])
def test_accepts_common_keys(key: str) -> None:
    assert key_problem(key, 64) is None


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("IVF1048577,Flat", "IVF1048577, more than 1,048,576"),
        ("IMI2x11,Flat", "IMI2x11, more than 10"),
        ("PQ8x17", "x17, more than 16"),
        ("HNSW100000", "100000, more than 65,536"),
        ("Pad65536,PQ8x16", "codes of 16 bits for 65,536 values"),
        ("IVF16,Flat" + "9" * 80, "9" * 80 + ", more than 65,536"),
        ("x" * (MAX_KEY + 1), "not 1 to 100 letters, digits and _,()+.-"),
        ("Flat\n", "not 1 to 100 letters, digits and _,()+.-"),
        ("", "not 1 to 100 letters, digits and _,()+.-"),
    ],
)
def test_refuses_keys_that_exhaust_memory_or_crash_faiss(key: str, found: str) -> None:
    assert key_problem(key, 64) == found
