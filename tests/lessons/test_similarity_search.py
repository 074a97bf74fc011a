"""Exact search is the same in numpy and FAISS; a small part of the comparisons has nearly all of the recall."""

from itertools import pairwise

import numpy as np
import pytest

from lookalike.lessons.similarity_search import EFFORTS, LISTS, PROBES, exact, recall
from tests.lessons.conftest import Experiment

LIST_NAME, GRAPH_NAME = "inverted file, nprobe", "graph, ef_search"


def test_exact_search_as_worked_out_by_hand() -> None:
    items = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    assert exact(items, np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), k=2).tolist() == [[1, 2], [0, 2]]


def test_recall_as_worked_out_by_hand() -> None:
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 9]])) == 0.75


def test_numpy_and_faiss_agree(numbers: Experiment) -> None:
    measured = numbers("similarity-search")
    assert measured["share of neighbors on which numpy and FAISS's flat index agree"] > 0.999  # except for ties


def test_embeddings_with_a_quarter_of_the_numbers_are_nearly_as_precise(numbers: Experiment) -> None:
    measured = numbers("similarity-search")
    raw, embedded = measured["precision@10, raw rows of 64 numbers"], measured["precision@10, embeddings of 16 numbers"]
    assert raw - 0.04 < embedded < 1


@pytest.mark.parametrize(("name", "efforts"), [(LIST_NAME, PROBES), (GRAPH_NAME, EFFORTS)])
def test_recall_increases_with_comparisons(numbers: Experiment, name: str, efforts: tuple[int, ...]) -> None:
    measured = numbers("similarity-search")
    recalls = [measured[f"recall@10, {name} = {effort}"] for effort in efforts]
    shares = [measured[f"share of the items compared, {name} = {effort}"] for effort in efforts]
    assert all(more >= less for less, more in pairwise(recalls))
    assert all(more > less for less, more in pairwise(shares))
    assert any(found > 0.98 and share < 0.2 for found, share in zip(recalls, shares, strict=True))


def test_searching_all_lists_is_exact(numbers: Experiment) -> None:
    measured = numbers("similarity-search")
    assert measured[f"recall@10, {LIST_NAME} = {LISTS}"] > 0.999
    assert measured[f"share of the items compared, {LIST_NAME} = {LISTS}"] == 1.0
    assert measured[f"recall@10, {LIST_NAME} = 1"] < 0.9


def test_the_graph_needs_fewer_comparisons_for_the_same_recall(numbers: Experiment) -> None:
    measured = numbers("similarity-search")
    graph, lists = f"{GRAPH_NAME} = 16", f"{LIST_NAME} = 4"
    assert measured[f"recall@10, {graph}"] >= measured[f"recall@10, {lists}"]
    assert measured[f"share of the items compared, {graph}"] < 0.7 * measured[f"share of the items compared, {lists}"]
