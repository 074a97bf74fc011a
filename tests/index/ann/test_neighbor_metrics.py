import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.neighbor_metrics import as_near, each_alike, each_found_again, each_kept, right_shares
from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.quality import neighbours_kept
from tests.factories import cloud


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


def nearest_others(rows: NDArray[np.float32], metric: str, k: int = 10) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (
        NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(rows).kneighbors(return_distance=False)
    )
    return found


def test_each_row_by_hand() -> None:
    # Nearest others: 0 -> 1, 1 -> 0, 2 -> 1, and after: 0 -> 1, 1 -> 2, 2 -> 1.
    before, after = column(0, 1, 3), column(0, 2.2, 3)
    assert each_kept(before, after, "l2", k=1).tolist() == [1, 0, 1]
    assert each_kept(before, after, "l2", k=1, asked=np.array([2, 1])).tolist() == [1, 0]
    assert each_kept(column(1), column(1), "l2").tolist() == [1]
    assert each_alike(after, np.array(["a", "b", "b"]), "l2", k=1).tolist() == [0, 1, 1]
    assert each_alike(column(0, 1, -1), np.array(["a", "a", "b"]), "l2", k=1).tolist() == [0.5, 1, 0]


def test_each_damaged_row_by_hand() -> None:
    clean, damaged = column(0, 10, 20), column(1, 16, 15)
    assert each_found_again(clean, damaged, "l2", k=1).tolist() == [1, 0, 0.5]
    assert each_found_again(clean, damaged, "l2", gallery=column(1, 99), k=1).tolist() == [0, 0, 0.5]
    assert each_found_again(clean[:0], damaged[:0], "l2").tolist() == []


@pytest.mark.parametrize(("metric", "theirs"), [("l2", "euclidean"), ("cosine", "cosine")])
def test_kept_of_those_asked_is_what_scikit_learn_finds(metric: Metric, theirs: str) -> None:
    rows = cloud(300, 8) / np.linalg.norm(cloud(300, 8), axis=1, keepdims=True)
    moved = rows + 0.1 * cloud(300, 8, seed=1)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    asked = np.array([7, 3, 250])
    near, far = nearest_others(rows, theirs), nearest_others(moved, theirs)
    common = [len(set(near[i]) & set(far[i])) / 10 for i in asked]
    assert each_kept(rows, moved, metric, by=metric, asked=asked) == pytest.approx(common)
    assert each_kept(rows, moved, metric, by=metric).mean() == pytest.approx(neighbours_kept(rows, moved, metric))


def test_names_of_neighbours_are_what_scikit_learn_finds() -> None:
    rows, names = cloud(200, 3), np.array(["a", "b", "c", "d"] * 50)
    wanted = (names[nearest_others(rows, "euclidean")] == names[:, None]).mean(axis=1)
    assert each_alike(rows, names, "l2") == pytest.approx(wanted)


def test_by_inner_product_what_is_near_is_by_the_product() -> None:
    line = column(1, 2, 3.5, 9)  # by the product all find 3 but 3 itself, which finds 2
    assert as_near(line, 1, "ip")(slice(None)).argmax(axis=1).tolist() == [3, 3, 3, 2]
    assert right_shares(line, as_near(line, 1, "ip"), "ip", 1).tolist() == [1, 1, 1, 1]


far = st.floats(1e3, float(np.finfo(np.float32).max), width=32).flatmap(lambda size: st.sampled_from([size, -size]))


@settings(max_examples=40, deadline=None)
@given(value=far, row=st.integers(0, 59), whole=st.booleans())
def test_a_row_that_is_far_away_leaves_all_others_as_they_are_without_it(value: float, row: int, whole: bool) -> None:
    """It is nobody's neighbour, and neither moves the origin nor says what a tie is."""
    before = cloud(60, 3)
    after = before + np.float32(0.3) * cloud(60, 3, seed=1)
    names = np.array([f"{number % 4}" for number in range(60)])
    left = np.delete(before, row, axis=0), np.delete(after, row, axis=0)
    for rows in (before, after):
        rows[row, None if whole else 1] = value
    for found, expected in (
        (each_kept(before, after, "l2"), each_kept(*left, "l2")),
        (each_alike(after, names, "l2"), each_alike(left[1], np.delete(names, row), "l2")),
        (each_found_again(before, after, "l2", k=5), each_found_again(*left, "l2", k=5)),
    ):
        np.testing.assert_array_equal(np.delete(found, row), expected)
