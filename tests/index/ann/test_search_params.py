import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.ann.search_params import GRID, SearchParams
from lookalike.training.errors import ConfigError
from tests.factories import cloud

DIM = 8


def params_of(key: str) -> SearchParams:
    return SearchParams(faiss.index_factory(DIM, key))


@pytest.mark.parametrize(
    ("key", "names", "lists", "is_graph"),
    [
        ("Flat", [], 0, False),
        ("SQ8", [], 0, False),
        ("PQ4x4", [], 0, False),
        ("IVF12,Flat", ["nprobe"], 12, False),
        ("PCA4,IVF12,SQ8", ["nprobe"], 12, False),
        ("HNSW8", ["efSearch"], 0, True),
        ("RR8,HNSW8", ["efSearch"], 0, True),
        ("SQ8,RFlat", ["k_factor"], 0, False),
        ("IVF12,PQ4x4fs,Refine(SQfp16)", ["k_factor", "nprobe"], 12, False),
        ("OPQ4,IVF12,PQ4x4fs,RFlat", ["k_factor", "nprobe"], 12, False),
        ("HNSW8_SQ8,RFlat", ["k_factor", "efSearch"], 0, True),
    ],
)
def test_parameters_by_kind_of_index(key: str, names: list[str], lists: int, is_graph: bool) -> None:
    search_params = params_of(key)
    assert (list(search_params.grids()), search_params.lists, search_params.is_graph) == (names, lists, is_graph)


@pytest.mark.parametrize(
    ("lists", "last"),
    [(1, (1,)), (2, (1, 2)), (9, (6, 7, 8, 9)), (10, (8, 9, 10)), (1024, (768, 1024)), (2048, (768, 1024))],
)
def test_nprobe_is_at_most_the_number_of_lists(lists: int, last: tuple[int, ...]) -> None:
    grid = params_of(f"IVF{lists},Flat").grids()["nprobe"]
    assert grid[-len(last) :] == last
    assert grid[0] == 1


def test_values_to_try_ascend() -> None:
    for key in ("IVF100,PQ4x4fs,RFlat", "HNSW8"):
        for values in params_of(key).grids().values():
            assert list(values) == sorted(set(values))
    assert set(params_of("HNSW8").grids()["efSearch"]) <= set(GRID)


def test_set_changes_the_faiss_index() -> None:
    index = faiss.index_factory(DIM, "OPQ4,IVF12,PQ4x4fs,RFlat")
    SearchParams(index).set("nprobe=7,k_factor=3")
    assert (index.k_factor, faiss.extract_index_ivf(index.base_index).nprobe) == (3, 7)
    graph = faiss.index_factory(DIM, "HNSW8")
    SearchParams(graph).set("efSearch=77")
    assert graph.hnsw.efSearch == 77


def test_an_empty_text_keeps_faiss_defaults() -> None:
    graph = faiss.index_factory(DIM, "HNSW8")
    before = graph.hnsw.efSearch
    SearchParams(graph).set("")
    assert graph.hnsw.efSearch == before


@pytest.mark.parametrize(
    "part",
    [
        *("nprobe", "nprobe=", "nprobe=0", "nprobe=-1", "nprobe=+1", "nprobe=1.5", "nprobe= 1", "nprobe=1=2", "=3"),
        *(f"nprobe={2**31}", "nprobe=\N{SUPERSCRIPT TWO}", "efSearch=16", "Nprobe=4", "quantizer=1", "__class__=1"),
    ],
)
def test_refuses_an_invalid_parameter_and_lists_the_valid_ones(part: str) -> None:
    known = r"k_factor=N, N from 1 to [\d,]+, nprobe=N, N from 1 to [\d,]+"
    with pytest.raises(ConfigError, match=f"search parameters: expected {known}, found ") as caught:
        params_of("IVF12,SQ8,RFlat").set(f"k_factor=2,{part}")
    assert part in str(caught.value)


def test_refuses_any_parameter_of_an_index_without_parameters() -> None:
    with pytest.raises(ConfigError, match="expected no parameter, found nprobe=1"):
        params_of("Flat").set("nprobe=1")


@given(st.text("nprobe=,0123456789k_factor", max_size=24))
def test_sets_or_refuses_any_text(text: str) -> None:
    index = faiss.index_factory(DIM, "IVF12,SQ8,RFlat")
    try:
        SearchParams(index).set(text)
    except ConfigError:
        return
    assert index.k_factor >= 1
    assert faiss.extract_index_ivf(index.base_index).nprobe >= 1


def indexed(key: str, search: str = "") -> tuple[faiss.Index, SearchParams]:
    """An index of 8,000 normally distributed items."""
    items = cloud(8_000, DIM)
    index = faiss.index_factory(DIM, key)
    index.train(items)
    index.add(items)
    search_params = SearchParams(index)
    search_params.set(search)
    return index, search_params


@pytest.mark.parametrize(
    ("key", "search", "every", "effort", "expected"),
    [
        ("IVF80,Flat", "nprobe=2", 1, 1, ("nprobe", 2)),
        ("IVF80,Flat", "nprobe=2", 2, 1, ("nprobe", 4)),
        ("IVF80,Flat", "nprobe=2", 2, 4, ("nprobe", 16)),
        ("IVF80,PQ4x4fs,RFlat", "nprobe=2,k_factor=3", 2, 4, ("k_factor", 12)),
        ("HNSW8", "efSearch=20", 2, 1, ("efSearch", 40)),
        ("HNSW8", "efSearch=5", 2, 4, ("efSearch", 80)),
    ],
)
def test_a_filtered_search_scales_its_effort(
    key: str, search: str, every: int, effort: int, expected: tuple[str, int]
) -> None:
    """If every second item is allowed, the search visits twice as many lists; a graph keeps at least k = 10 items."""
    _, search_params = indexed(key, search)
    parameters = search_params.for_selection(search_params.select(np.arange(8_000) % every == 0), 10, effort)
    assert getattr(parameters, expected[0]) == expected[1]


def test_a_filtered_search_visits_only_lists_with_allowed_items() -> None:
    """All items of lists 3, 30, 31 and 60 are allowed: the only visited list of any query is one of these."""
    index, search_params = indexed("IVF80,Flat", "nprobe=1")
    allowed = np.zeros(8_000, bool)
    for number in (3, 30, 31, 60):
        allowed[faiss.rev_swig_ptr(index.invlists.get_ids(number), index.invlists.list_size(number))] = True
    selection = search_params.select(allowed)
    assert (selection.count, selection.held) == (allowed.sum(), 4)
    _, found = index.search(cloud(50, DIM, seed=1), 1, params=search_params.for_selection(selection, 1, 1))
    assert allowed[found].all()


@pytest.mark.parametrize(
    ("key", "every", "effort"),
    [("IVF80,Flat", 1, 100), ("IVF80,Flat", 100, 1), ("HNSW8", 1, 100), ("HNSW8", 100, 1)],
)
def test_no_filtered_search_if_exhaustive_comparison_is_as_fast(key: str, every: int, effort: int) -> None:
    _, search_params = indexed(key)
    assert search_params.for_selection(search_params.select(np.arange(8_000) % every == 0), 10, effort) is None


@pytest.mark.parametrize("key", ["Flat", "SQ8", "PQ4x4", "PQ4x4fs,RFlat", "PCA4,PQ4x4"])
def test_no_filtered_search_in_an_index_without_lists_or_links(key: str) -> None:
    _, search_params = indexed(key)
    assert search_params.for_selection(search_params.select(np.ones(8_000, bool)), 10, 1) is None


def test_no_filtered_search_without_allowed_items() -> None:
    _, search_params = indexed("IVF80,Flat")
    assert search_params.for_selection(search_params.select(np.zeros(8_000, bool)), 10, 1) is None


def test_cannot_skip_lists_that_are_found_by_a_graph() -> None:
    _, search_params = indexed("IVF80_HNSW8,Flat", "nprobe=2")
    selection = search_params.select(np.arange(8_000) % 2 == 0)
    assert (selection.lists, selection.held) == (None, 80)
    assert search_params.for_selection(selection, 10, 1).nprobe == 4


def test_training_prints_no_warning_about_few_points(capfd: pytest.CaptureFixture[str]) -> None:
    index = faiss.index_factory(DIM, "IVF12,Flat")
    SearchParams(index)
    index.train(cloud(30, DIM))
    assert "WARNING" not in "".join(capfd.readouterr())
