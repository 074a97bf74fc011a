"""Exact is exact, whoever computes it; a part of the comparisons buys nearly all of the recall."""

from itertools import pairwise

import numpy as np
import pytest

from lookalike.lessons.similarity_search import EFFORTS, LISTS, PROBES, exact, recall
from tests.lessons.conftest import Experiment

LIST_NAME, GRAPH_NAME = "inverted file, nprobe", "graph, ef_search"


def test_exact_by_hand() -> None:
    items = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    assert exact(items, np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), k=2).tolist() == [[1, 2], [0, 2]]


def test_recall_by_hand() -> None:
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 9]])) == 0.75


def test_numpy_and_faiss_agree(numbers: Experiment) -> None:
    told = numbers("similarity-search")
    assert told["share of neighbours that numpy and FAISS's flat index agree on"] > 0.999  # but for ties


def test_a_quarter_of_the_numbers_is_nearly_as_good(numbers: Experiment) -> None:
    told = numbers("similarity-search")
    raw, embedded = told["precision@10, raw rows of 64 numbers"], told["precision@10, embeddings of 16 numbers"]
    assert raw - 0.04 < embedded < 1


@pytest.mark.parametrize(("name", "efforts"), [(LIST_NAME, PROBES), (GRAPH_NAME, EFFORTS)])
def test_recall_is_bought_with_comparisons(numbers: Experiment, name: str, efforts: tuple[int, ...]) -> None:
    told = numbers("similarity-search")
    recalls = [told[f"recall@10, {name} = {effort}"] for effort in efforts]
    shares = [told[f"share of the items compared, {name} = {effort}"] for effort in efforts]
    assert all(more >= less for less, more in pairwise(recalls))
    assert all(more > less for less, more in pairwise(shares))
    assert any(found > 0.98 and share < 0.2 for found, share in zip(recalls, shares, strict=True))


def test_all_lists_are_everything(numbers: Experiment) -> None:
    told = numbers("similarity-search")
    assert told[f"recall@10, {LIST_NAME} = {LISTS}"] > 0.999
    assert told[f"share of the items compared, {LIST_NAME} = {LISTS}"] == 1.0
    assert told[f"recall@10, {LIST_NAME} = 1"] < 0.9


def test_the_graph_needs_fewer_comparisons(numbers: Experiment) -> None:
    told = numbers("similarity-search")
    graph, lists = f"{GRAPH_NAME} = 16", f"{LIST_NAME} = 4"
    assert told[f"recall@10, {graph}"] >= told[f"recall@10, {lists}"]
    assert told[f"share of the items compared, {graph}"] < 0.7 * told[f"share of the items compared, {lists}"]
