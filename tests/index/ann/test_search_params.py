import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.ann.search_params import GRID, SearchParams
from lookalike.training.errors import ConfigError
from tests.factories import cloud

DIM = 8


def knobs_of(key: str) -> SearchParams:
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
def test_an_index_has_the_parameters_of_what_it_is_made_of(
    key: str, names: list[str], lists: int, is_graph: bool
) -> None:
    search_params = knobs_of(key)
    assert (list(search_params.grids()), search_params.lists, search_params.is_graph) == (names, lists, is_graph)


@pytest.mark.parametrize(
    ("lists", "last"),
    [(1, (1,)), (2, (1, 2)), (9, (6, 7, 8, 9)), (10, (8, 9, 10)), (1024, (768, 1024)), (2048, (768, 1024))],
)
def test_no_more_lists_are_looked_through_than_there_are(lists: int, last: tuple[int, ...]) -> None:
    grid = knobs_of(f"IVF{lists},Flat").grids()["nprobe"]
    assert grid[-len(last) :] == last
    assert grid[0] == 1


def test_values_worth_a_try_rise() -> None:
    for key in ("IVF100,PQ4x4fs,RFlat", "HNSW8"):
        for values in knobs_of(key).grids().values():
            assert list(values) == sorted(set(values))
    assert set(knobs_of("HNSW8").grids()["efSearch"]) <= set(GRID)


def test_what_is_set_reaches_faiss() -> None:
    index = faiss.index_factory(DIM, "OPQ4,IVF12,PQ4x4fs,RFlat")
    SearchParams(index).set("nprobe=7,k_factor=3")
    assert (index.k_factor, faiss.extract_index_ivf(index.base_index).nprobe) == (3, 7)
    graph = faiss.index_factory(DIM, "HNSW8")
    SearchParams(graph).set("efSearch=77")
    assert graph.hnsw.efSearch == 77


def test_nothing_to_set_leaves_what_faiss_takes() -> None:
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
def test_what_cannot_be_set_is_refused_with_what_can(part: str) -> None:
    known = r"k_factor=N, N from 1 to [\d,]+, nprobe=N, N from 1 to [\d,]+"
    with pytest.raises(ConfigError, match=f"search parameters: expected {known}, found ") as caught:
        knobs_of("IVF12,SQ8,RFlat").set(f"k_factor=2,{part}")
    assert part in str(caught.value)


def test_an_index_without_parameters_says_so() -> None:
    with pytest.raises(ConfigError, match="expected nothing, found nprobe=1"):
        knobs_of("Flat").set("nprobe=1")


@given(st.text("nprobe=,0123456789k_factor", max_size=24))
def test_any_text_is_set_or_refused(text: str) -> None:
    index = faiss.index_factory(DIM, "IVF12,SQ8,RFlat")
    try:
        SearchParams(index).set(text)
    except ConfigError:
        return
    assert index.k_factor >= 1
    assert faiss.extract_index_ivf(index.base_index).nprobe >= 1


def indexed(key: str, search: str = "") -> tuple[faiss.Index, SearchParams]:
    """Of 8,000 normally distributed items."""
    items = cloud(8_000, DIM)
    index = faiss.index_factory(DIM, key)
    index.train(items)
    index.add(items)
    search_params = SearchParams(index)
    search_params.set(search)
    return index, search_params


@pytest.mark.parametrize(
    ("key", "search", "every", "farther", "told"),
    [
        ("IVF80,Flat", "nprobe=2", 1, 1, ("nprobe", 2)),
        ("IVF80,Flat", "nprobe=2", 2, 1, ("nprobe", 4)),
        ("IVF80,Flat", "nprobe=2", 2, 4, ("nprobe", 16)),
        ("IVF80,PQ4x4fs,RFlat", "nprobe=2,k_factor=3", 2, 4, ("k_factor", 12)),
        ("HNSW8", "efSearch=20", 2, 1, ("efSearch", 40)),
        ("HNSW8", "efSearch=5", 2, 4, ("efSearch", 80)),
    ],
)
def test_a_search_among_some_looks_as_many_times_as_far(
    key: str, search: str, every: int, farther: int, told: tuple[str, int]
) -> None:
    """Of every second item, in twice as many lists; a graph keeps at least as many as are asked for, here ten."""
    _, search_params = indexed(key, search)
    parameters = search_params.selecting(search_params.select(np.arange(8_000) % every == 0), 10, farther)
    assert getattr(parameters, told[0]) == told[1]


def test_only_lists_that_hold_some_are_looked_into() -> None:
    """All items of lists 3, 30, 31 and 60 are allowed: from anywhere, the one list looked into is one of these."""
    index, search_params = indexed("IVF80,Flat", "nprobe=1")
    allowed = np.zeros(8_000, bool)
    for number in (3, 30, 31, 60):
        allowed[faiss.rev_swig_ptr(index.invlists.get_ids(number), index.invlists.list_size(number))] = True
    selection = search_params.select(allowed)
    assert (selection.count, selection.held) == (allowed.sum(), 4)
    _, found = index.search(cloud(50, DIM, seed=1), 1, params=search_params.selecting(selection, 1, 1))
    assert allowed[found].all()


@pytest.mark.parametrize(
    ("key", "every", "farther"),
    [("IVF80,Flat", 1, 100), ("IVF80,Flat", 100, 1), ("HNSW8", 1, 100), ("HNSW8", 100, 1)],
)
def test_no_farther_than_comparing_all_would_take(key: str, every: int, farther: int) -> None:
    _, search_params = indexed(key)
    assert search_params.selecting(search_params.select(np.arange(8_000) % every == 0), 10, farther) is None


@pytest.mark.parametrize("key", ["Flat", "SQ8", "PQ4x4", "PQ4x4fs,RFlat", "PCA4,PQ4x4"])
def test_an_index_without_lists_or_links_has_no_such_search(key: str) -> None:
    _, search_params = indexed(key)
    assert search_params.selecting(search_params.select(np.ones(8_000, bool)), 10, 1) is None


def test_of_none_there_is_no_search() -> None:
    _, search_params = indexed("IVF80,Flat")
    assert search_params.selecting(search_params.select(np.zeros(8_000, bool)), 10, 1) is None


def test_lists_found_by_a_graph_cannot_be_left_out() -> None:
    _, search_params = indexed("IVF80_HNSW8,Flat", "nprobe=2")
    selection = search_params.select(np.arange(8_000) % 2 == 0)
    assert (selection.lists, selection.held) == (None, 80)
    assert search_params.selecting(selection, 10, 1).nprobe == 4


def test_training_prints_no_warning_of_few_points(capfd: pytest.CaptureFixture[str]) -> None:
    index = faiss.index_factory(DIM, "IVF12,Flat")
    SearchParams(index)
    index.train(cloud(30, DIM))
    assert "WARNING" not in "".join(capfd.readouterr())
