import faiss
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.ann.candidates import ENOUGH, KINDS, LEAST_TRAINING, SPREAD, Candidate, candidates, training_rows
from lookalike.index.ann.spec import IndexSpec
from lookalike.index.ann.vectors import VectorIndex

COUNTS = st.integers(1, 3_000_000)
DIMS = st.integers(1, 2_048)
WITH_LISTS = Candidate("IVF{lists},SQ8", 2)


@pytest.mark.parametrize(
    ("lists", "count", "expected"),
    [
        (2, 10_000, 200),
        (2, 8_000, 179),  # 178.9
        (1.5, 60_000, 367),  # 367.4
        (4, 1_000_000, 4_000),
        (2, 1_000, 25),  # with 63 lists, each would have 15 vectors
        (2, 39, 1),
        (2, 1, 1),
    ],
)
def test_the_number_of_lists(lists: float, count: int, expected: int) -> None:
    assert Candidate("IVF{lists},SQ8", lists).key_for(count, 8) == f"IVF{expected},SQ8"


@given(COUNTS)
def test_a_list_has_enough_vectors_for_training(count: int) -> None:
    expected = int(WITH_LISTS.key_for(count, 8).removeprefix("IVF").partition(",")[0])
    assert expected == 1 or expected * SPREAD <= count
    assert expected <= 2 * count**0.5 + 0.5


@pytest.mark.parametrize(("dim", "key"), [(32, "PQ16x4fs"), (2, "PQ1x4fs"), (2_048, "PQ1024x4fs")])
def test_one_code_per_two_dimensions(dim: int, key: str) -> None:
    assert Candidate("PQ{half}x4fs").key_for(1_000, dim) == key


@pytest.mark.parametrize(
    ("kind", "count", "dim", "suits"),
    [
        (Candidate("Flat", least=5, most=9), 4, 3, False),
        (Candidate("Flat", least=5, most=9), 5, 3, True),
        (Candidate("Flat", least=5, most=9), 9, 3, True),
        (Candidate("Flat", least=5, most=9), 10, 3, False),
        (Candidate("PQ{half}x4fs", even=True), 10, 3, False),
        (Candidate("PQ{half}x4fs", even=True), 10, 4, True),
    ],
)
def test_suits(kind: Candidate, count: int, dim: int, suits: bool) -> None:
    assert kind.suits(count, dim) == suits


@given(COUNTS, DIMS)
def test_there_is_always_a_candidate_and_flat_is_first_for_few_vectors(count: int, dim: int) -> None:
    kinds = candidates(count, dim)
    assert kinds == [kind for kind in KINDS if kind in kinds]
    assert kinds
    assert (kinds[0].key == "Flat") == (count <= 200_000)


@pytest.mark.parametrize("count", [1, 999])
def test_few_vectors_are_compared_exhaustively(count: int) -> None:
    assert [kind.key for kind in candidates(count, 8)] == ["Flat"]


@pytest.mark.parametrize("dim", [1, 2, 7, 64, 2_047, 2_048])
@pytest.mark.parametrize("count", [1, 1_000, 9_999, 10_000, 100_000, 1_000_000])
def test_faiss_can_build_each_candidate(count: int, dim: int) -> None:
    for kind in candidates(count, dim):
        key = kind.key_for(count, dim)
        assert faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT).d == dim
        assert faiss.index_factory(dim, key, faiss.METRIC_L2).ntotal == 0


def test_candidates_are_unique() -> None:
    assert len({(kind.key, kind.lists) for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("Flat", LEAST_TRAINING),
        ("SQ8", LEAST_TRAINING),
        ("IVF4,Flat", LEAST_TRAINING),
        ("IVF1024,Flat", ENOUGH * 1_024),
    ],
)
def test_training_rows_grow_with_the_lists(key: str, rows: int) -> None:
    assert training_rows(VectorIndex(IndexSpec(key, "l2"), 4)) == rows
