import dataclasses
import json
from typing import Any, get_args

import faiss
import pytest

from index.spec import FLAT_LIMIT, KINDS, IndexChoice, IndexSpec, Kind, Metric, choose_spec

METRICS: tuple[Metric, ...] = get_args(Metric)


@pytest.mark.parametrize(
    ("count", "choice", "kind"),
    [
        (1, "auto", "flat"),
        (FLAT_LIMIT, "auto", "flat"),
        (FLAT_LIMIT + 1, "auto", "hnsw"),
        (1, "hnsw", "hnsw"),
        (FLAT_LIMIT + 1, "flat", "flat"),
    ],
)
def test_the_kind_goes_by_size_unless_one_is_asked_for(count: int, choice: IndexChoice, kind: Kind) -> None:
    assert choose_spec(count, "l2", choice) == IndexSpec(kind, "l2")


def test_every_kind_that_has_a_name_can_be_made_and_chosen() -> None:
    assert set(KINDS) == set(get_args(Kind))
    assert set(get_args(IndexChoice)) == {"auto", *KINDS}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_index_is_made_empty_of_its_width_and_metric(kind: Kind, metric: Metric) -> None:
    made = KINDS[kind](7, IndexSpec(kind, metric))
    wanted = {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT, "cosine": faiss.METRIC_INNER_PRODUCT}
    assert (made.d, made.ntotal, made.metric_type) == (7, 0, wanted[metric])


def test_the_settings_of_a_graph_reach_it() -> None:
    made: Any = KINDS["hnsw"](4, IndexSpec("hnsw", "l2", m=5, ef_construction=33, ef_search=44))
    assert (made.hnsw.nb_neighbors(1), made.hnsw.efConstruction, made.hnsw.efSearch) == (5, 33, 44)


def test_a_spec_survives_the_manifest() -> None:
    spec = IndexSpec("hnsw", "ip", m=5, ef_construction=33, ef_search=44)
    assert IndexSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
