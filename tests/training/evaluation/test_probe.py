from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lookalike.training.evaluation.probe import ProbeScores, label_scores, probe
from tests.factories import blobs

DIGITS, DIGIT_LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS.astype(np.float32)
ITEMS, QUERIES = DIGITS[:600], DIGITS[1_300:]
NEAR = 0.04


def parts(labels: list[Any]) -> tuple[list[Any], list[Any]]:
    return labels[:600], labels[1_300:]


def probe_digits(labels: list[Any]) -> ProbeScores:
    item_labels, query_labels = parts(labels)
    probed = probe(ITEMS, item_labels, QUERIES, query_labels)
    assert probed is not None
    return probed


def digit_names(digit: int) -> list[str]:
    """Two names at most: a digit may be odd, and may be large."""
    return ["odd"] * (digit % 2) + ["large"] * (digit > 4)


def marks(rows: list[list[str]], kinds: list[str]) -> NDArray[np.int64]:
    return np.array([[kind in row for kind in kinds] for row in rows], np.int64)


@pytest.mark.parametrize("labels", [DIGIT_LABELS.tolist(), (DIGIT_LABELS > 4).tolist()], ids=["ten kinds", "two kinds"])
def test_one_label_per_row_is_predicted_as_well_as_by_scikit_learn(labels: list[Any]) -> None:
    item_labels, query_labels = parts(labels)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000)).fit(ITEMS, item_labels)
    nearest = KNeighborsClassifier(10).fit(ITEMS, item_labels)
    probed = probe_digits(labels)
    assert probed.linear["accuracy"] == pytest.approx(linear.score(QUERIES, query_labels), abs=NEAR)
    assert probed.neighbours["accuracy"] == pytest.approx(nearest.score(QUERIES, query_labels), abs=0.005)  # ties
    assert probed.mlp["accuracy"] > probed.linear["accuracy"] - 0.02


def test_several_labels_per_row_are_predicted_as_well_as_by_scikit_learn() -> None:
    labels = [digit_names(digit) for digit in DIGIT_LABELS.tolist()]
    item_labels, query_labels = (marks(part, ["large", "odd"]) for part in parts(labels))
    linear = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=5_000))).fit(
        ITEMS, item_labels
    )
    nearest = KNeighborsClassifier(10).fit(ITEMS, item_labels)
    probed = probe_digits(labels)
    for scores, model in ((probed.linear, linear), (probed.neighbours, nearest)):
        for average in ("macro", "micro"):
            expected = f1_score(query_labels, model.predict(QUERIES), average=average)
            assert scores[f"{average} F1"] == pytest.approx(expected, abs=NEAR)
    assert min(probed.mlp.values()) > 0.85


def test_a_probe_depends_on_its_seed_and_keeps_the_global_random_state() -> None:
    torch.manual_seed(3)
    drawn = torch.get_rng_state()
    item_labels, query_labels = DIGIT_LABELS[:150].tolist(), DIGIT_LABELS[1_300:].tolist()
    one, same, other = (probe(ITEMS[:150], item_labels, QUERIES, query_labels, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert torch.equal(torch.get_rng_state(), drawn)


def test_only_the_mlp_probe_learns_classes_that_no_line_separates() -> None:
    # Exclusive or: the sign of a product.
    rows = np.random.default_rng(0).uniform(-1, 1, (600, 2)).astype(np.float32)
    labels = (rows.prod(axis=1) > 0).tolist()
    probed = probe(rows[:400], labels[:400], rows[400:], labels[400:])
    assert probed is not None
    assert probed.linear["accuracy"] < 0.7
    assert probed.mlp["accuracy"] > 0.9


def test_embeddings_may_have_any_scale() -> None:
    labels = [i % 3 for i in range(60)]
    for factor, shift in ((1.0, 0.0), (1e-4, 0.0), (1e4, 1e5)):
        rows = (factor * blobs() + shift).astype(np.float32)
        rows[:, 0] = 7.0  # a constant column has no scale
        probed = probe(rows[:45], labels[:45], rows[45:], labels[45:])
        assert probed is not None
        assert [scores["accuracy"] for scores in (probed.linear, probed.mlp, probed.neighbours)] == [1.0] * 3


def test_rows_without_a_label_are_ignored() -> None:
    labels: list[Any] = [i % 3 for i in range(60)]
    gaps = [None if i % 5 == 0 else label for i, label in enumerate(labels)]
    kept = [i for i, label in enumerate(gaps) if label is not None]
    rows = blobs()
    first, last = [i for i in kept if i < 45], [i for i in kept if i >= 45]
    expected = probe(rows[first], [labels[i] for i in first], rows[last], [labels[i] for i in last])
    assert probe(rows[:45], gaps[:45], rows[45:], gaps[45:]) == expected


def test_a_label_that_no_item_has_is_predicted_wrong() -> None:
    labels: list[Any] = [i % 3 for i in range(60)]
    rows, new = blobs(), ["new", *labels[46:]]
    probed = probe(rows[:45], labels[:45], rows[45:], new)
    assert probed is not None
    assert probed.neighbours == {"accuracy": 14 / 15} == probed.linear


def test_a_name_that_no_item_has_is_never_predicted() -> None:
    labels = [[["a"], ["b"], []][i % 3] for i in range(60)]
    rows = blobs()
    probed = probe(rows[:45], labels[:45], rows[45:], [["new"], *labels[46:]])
    # Of 15 queries five each are a, b and neither. The first, an a, is labeled new: its prediction, a, is wrong.
    assert probed is not None
    assert probed.neighbours["micro F1"] == pytest.approx(2 * 9 / (10 + 10))
    assert probed.neighbours["macro F1"] == pytest.approx((2 * 4 / (5 + 4) + 1 + 0) / 3)


@pytest.mark.parametrize(
    ("item_labels", "query_labels"),
    [
        ([None] * 6, ["a"] * 3),
        (["a", "b"] * 3, [None] * 3),
        (["a"] * 6, ["a", "b", "a"]),
        ([["a"]] * 6, [["a"], ["b"], []]),
        ([None] * 5 + ["a"], ["a"] * 3),
    ],
)
def test_without_labels_of_two_kinds_there_is_nothing_to_learn(item_labels: list[Any], query_labels: list[Any]) -> None:
    rows = blobs(9)
    assert probe(rows[:6], item_labels, rows[6:], query_labels) is None


def test_two_rows_are_enough() -> None:
    rows = blobs(3)
    assert probe(rows[:2], ["a", "b"], rows[2:], ["b"]) is not None


def test_labels_are_compared_as_text() -> None:
    labels: list[Any] = [i % 3 for i in range(60)]
    rows = blobs()
    expected = probe(rows[:45], labels[:45], rows[45:], labels[45:])
    assert probe(rows[:45], labels[:45], rows[45:], list(map(str, labels[45:]))) == expected


def test_probing_does_not_change_rows() -> None:
    rows, labels = blobs(), [i % 3 for i in range(60)]
    probe(rows[:45], labels[:45], rows[45:], labels[45:])
    assert np.array_equal(rows, blobs())


def test_label_scores_as_worked_out_by_hand() -> None:
    actual = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    predicted = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
    # Kind 1: one of two found, no false positive. Kind 2: the one found, one false positive. Kind 3: never present.
    first, second = 2 * 1 / (2 + 1), 2 * 1 / (1 + 2)
    assert label_scores(predicted, actual, several=True) == {
        "macro F1": pytest.approx((first + second) / 2),
        "micro F1": pytest.approx(2 * 2 / (3 + 3)),
    }
    assert label_scores(predicted, actual, several=False) == {"accuracy": pytest.approx(1 / 3)}
    nothing = np.zeros((3, 2), bool)
    assert label_scores(nothing, nothing, several=True) == {"macro F1": 0.0, "micro F1": 0.0}


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 1 << 20))
def test_label_scores_match_scikit_learn(rows: int, kinds: int, seed: int) -> None:
    predicted, actual = np.random.default_rng(seed).integers(0, 2, (2, rows, kinds)).astype(bool)
    several = label_scores(predicted, actual, several=True)
    assert several["micro F1"] == pytest.approx(f1_score(actual, predicted, average="micro", zero_division=0))
    some = [k for k in range(kinds) if predicted[:, k].any() or actual[:, k].any()]
    each = [f1_score(actual[:, k], predicted[:, k], zero_division=0) for k in some]
    assert several["macro F1"] == pytest.approx(np.mean(each) if some else 0.0)
    assert label_scores(predicted, actual, several=False)["accuracy"] == pytest.approx(
        accuracy_score(actual, predicted)
    )
