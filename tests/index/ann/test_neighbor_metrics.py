import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.neighbor_metrics import (
    among_nearest,
    label_agreement_per_row,
    neighbors_kept_per_row,
    recovery_per_row,
    relevant_shares,
)
from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.quality import neighbors_kept
from tests.factories import cloud


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


def nearest_others(rows: NDArray[np.float32], metric: str, k: int = 10) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (
        NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(rows).kneighbors(return_distance=False)
    )
    return found


def test_kept_neighbors_and_labels_per_row() -> None:
    # Nearest neighbors before: 0 -> 1, 1 -> 0, 2 -> 1; after: 0 -> 1, 1 -> 2, 2 -> 1.
    before, after = column(0, 1, 3), column(0, 2.2, 3)
    assert neighbors_kept_per_row(before, after, "l2", k=1).tolist() == [1, 0, 1]
    assert neighbors_kept_per_row(before, after, "l2", k=1, asked=np.array([2, 1])).tolist() == [1, 0]
    assert neighbors_kept_per_row(column(1), column(1), "l2").tolist() == [1]
    assert label_agreement_per_row(after, np.array(["a", "b", "b"]), "l2", k=1).tolist() == [0, 1, 1]
    assert label_agreement_per_row(column(0, 1, -1), np.array(["a", "a", "b"]), "l2", k=1).tolist() == [0.5, 1, 0]


def test_recovery_per_row() -> None:
    clean, damaged = column(0, 10, 20), column(1, 16, 15)
    assert recovery_per_row(clean, damaged, "l2", k=1).tolist() == [1, 0, 0.5]
    assert recovery_per_row(clean, damaged, "l2", gallery=column(1, 99), k=1).tolist() == [0, 0, 0.5]
    assert recovery_per_row(clean[:0], damaged[:0], "l2").tolist() == []


@pytest.mark.parametrize(("metric", "sklearn_metric"), [("l2", "euclidean"), ("cosine", "cosine")])
def test_kept_neighbors_agree_with_scikit_learn(metric: Metric, sklearn_metric: str) -> None:
    rows = cloud(300, 8) / np.linalg.norm(cloud(300, 8), axis=1, keepdims=True)
    moved = rows + 0.1 * cloud(300, 8, seed=1)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    asked = np.array([7, 3, 250])
    near, far = nearest_others(rows, sklearn_metric), nearest_others(moved, sklearn_metric)
    common = [len(set(near[i]) & set(far[i])) / 10 for i in asked]
    assert neighbors_kept_per_row(rows, moved, metric, by=metric, asked=asked) == pytest.approx(common)
    assert neighbors_kept_per_row(rows, moved, metric, by=metric).mean() == pytest.approx(
        neighbors_kept(rows, moved, metric)
    )


def test_labels_of_neighbors_agree_with_scikit_learn() -> None:
    rows, names = cloud(200, 3), np.array(["a", "b", "c", "d"] * 50)
    expected = (names[nearest_others(rows, "euclidean")] == names[:, None]).mean(axis=1)
    assert label_agreement_per_row(rows, names, "l2") == pytest.approx(expected)


def test_nearest_by_inner_product() -> None:
    line = column(
        1, 2, 3.5, 9
    )  # by the product, the nearest neighbor of all rows is row 3, except for row 3 itself, whose is row 2
    assert among_nearest(line, 1, "ip")(slice(None)).argmax(axis=1).tolist() == [3, 3, 3, 2]
    assert relevant_shares(line, among_nearest(line, 1, "ip"), "ip", 1).tolist() == [1, 1, 1, 1]


far = st.floats(1e3, float(np.finfo(np.float32).max), width=32).flatmap(lambda size: st.sampled_from([size, -size]))


@settings(max_examples=40, deadline=None)
@given(value=far, row=st.integers(0, 59), entire_row=st.booleans())
def test_an_outlier_does_not_change_the_metrics_of_other_rows(value: float, row: int, entire_row: bool) -> None:
    """It is no row's neighbor, and changes neither the origin nor the tolerance for ties."""
    before = cloud(60, 3)
    after = before + np.float32(0.3) * cloud(60, 3, seed=1)
    names = np.array([f"{number % 4}" for number in range(60)])
    without = np.delete(before, row, axis=0), np.delete(after, row, axis=0)
    for rows in (before, after):
        rows[row, None if entire_row else 1] = value
    for found, expected in (
        (neighbors_kept_per_row(before, after, "l2"), neighbors_kept_per_row(*without, "l2")),
        (label_agreement_per_row(after, names, "l2"), label_agreement_per_row(without[1], np.delete(names, row), "l2")),
        (recovery_per_row(before, after, "l2", k=5), recovery_per_row(*without, "l2", k=5)),
    ):
        np.testing.assert_array_equal(np.delete(found, row), expected)
