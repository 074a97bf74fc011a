import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.knobs import GRID, Knobs
from tests.index.made import cloud
from training.errors import ConfigError

DIM = 8


def knobs_of(key: str) -> Knobs:
    return Knobs(faiss.index_factory(DIM, key))


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
    knobs = knobs_of(key)
    assert (list(knobs.grids()), knobs.lists, knobs.is_graph) == (names, lists, is_graph)


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
    Knobs(index).set("nprobe=7,k_factor=3")
    assert (index.k_factor, faiss.extract_index_ivf(index.base_index).nprobe) == (3, 7)
    graph = faiss.index_factory(DIM, "HNSW8")
    Knobs(graph).set("efSearch=77")
    assert graph.hnsw.efSearch == 77


def test_nothing_to_set_leaves_what_faiss_takes() -> None:
    graph = faiss.index_factory(DIM, "HNSW8")
    before = graph.hnsw.efSearch
    Knobs(graph).set("")
    assert graph.hnsw.efSearch == before


@pytest.mark.parametrize(
    "part",
    [
        *("nprobe", "nprobe=", "nprobe=0", "nprobe=-1", "nprobe=+1", "nprobe=1.5", "nprobe= 1", "nprobe=1=2", "=3"),
        *(f"nprobe={2**31}", "nprobe=\N{SUPERSCRIPT TWO}", "efSearch=16", "Nprobe=4", "quantizer=1", "__class__=1"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can(part: str) -> None:
    with pytest.raises(ConfigError, match="search parameters: expected k_factor=N, nprobe=N, found ") as caught:
        knobs_of("IVF12,SQ8,RFlat").set(f"k_factor=2,{part}")
    assert part in str(caught.value)


def test_an_index_without_parameters_says_so() -> None:
    with pytest.raises(ConfigError, match="expected nothing, found nprobe=1"):
        knobs_of("Flat").set("nprobe=1")


@given(st.text("nprobe=,0123456789k_factor", max_size=24))
def test_any_text_is_set_or_refused(text: str) -> None:
    index = faiss.index_factory(DIM, "IVF12,SQ8,RFlat")
    try:
        Knobs(index).set(text)
    except ConfigError:
        return
    assert index.k_factor >= 1
    assert faiss.extract_index_ivf(index.base_index).nprobe >= 1


@pytest.mark.parametrize(
    ("key", "search", "widen", "told"),
    [
        ("IVF12,Flat", "nprobe=2", 1.0, ("nprobe", 2)),
        ("IVF12,Flat", "nprobe=2", 2.2, ("nprobe", 5)),
        ("IVF12,Flat", "nprobe=2", 1e9, ("nprobe", 12)),
        ("HNSW8", "efSearch=10", 1.55, ("efSearch", 16)),
    ],
)
def test_a_search_among_some_looks_as_many_times_as_far(
    key: str, search: str, widen: float, told: tuple[str, int]
) -> None:
    knobs = knobs_of(key)
    knobs.set(search)
    bits = np.full(1, 255, np.uint8)
    selector = faiss.IDSelectorBitmap(bits)
    assert getattr(knobs.selecting(selector, widen), told[0]) == told[1]


@pytest.mark.parametrize("key", ["PQ4x4", "PQ4x4fs,RFlat", "PCA4,PQ4x4"])
def test_an_index_that_can_leave_nothing_out_has_no_such_search(key: str) -> None:
    bits = np.full(1, 255, np.uint8)
    assert knobs_of(key).selecting(faiss.IDSelectorBitmap(bits), 1.0) is None


def test_a_refined_search_among_some_keeps_its_factor() -> None:
    """Of 200 items 3 are allowed, and k_factor 64 looks at so many candidates."""
    items = cloud(200, DIM)
    index = faiss.index_factory(DIM, "IVF4,PQ4x4fs,RFlat")
    index.train(items)
    index.add(items)
    knobs = Knobs(index)
    knobs.set("nprobe=4,k_factor=64")
    mask = np.isin(np.arange(200), [7, 70, 170])
    bits = np.packbits(mask, bitorder="little")
    parameters = knobs.selecting(faiss.IDSelectorBitmap(bits), 1.0)
    assert parameters.k_factor == 64
    _, found = index.search(items[:5], 3, params=parameters)
    assert all(sorted(row) == [7, 70, 170] for row in found.tolist())


def test_training_prints_no_warning_of_few_points(capfd: pytest.CaptureFixture[str]) -> None:
    index = faiss.index_factory(DIM, "IVF12,Flat")
    Knobs(index)
    index.train(cloud(30, DIM))
    assert "WARNING" not in "".join(capfd.readouterr())
