"""The peers of the quality benchmark, on values worked out by hand; aeon, scikit-image and pythae are not needed."""

import numpy as np
import pytest

from benchmarks.quality_peers import channel_scaled, each_scaled, forest, gower, pca, raw


def test_raw_rows_do_not_change() -> None:
    rows = np.ones((2, 3), np.float32)
    assert raw(rows) is rows


def test_a_component_is_the_direction_of_the_greatest_variance() -> None:
    items = np.array([[-2, 1], [2, 1], [0, 1.5], [0, 0.5]], np.float32)
    embed = pca(items, 5)
    assert embed(items).shape == (4, 2)
    assert np.abs(pca(items, 1)(np.array([[3, 9]], np.float32))).tolist() == [[pytest.approx(3)]]


def test_channels_are_scaled_over_all_samples_of_the_items() -> None:
    items = np.array([[0, 10, 2, 10], [4, 10, 6, 10]], np.float32)  # channel 0: 0 2 4 6, mean 3, variance 5
    found = channel_scaled(items, 2)(np.array([[3, 11, 8, 10]], np.float32))
    assert found.tolist() == [pytest.approx([0, 1, 5**0.5, 0])]


def test_each_channel_of_a_window_is_scaled_by_itself() -> None:
    windows = np.array([[1, 7, 3, 7], [0, 0, 0, 4]], np.float32)
    assert each_scaled(windows, 2).tolist() == [[-1, 0, 1, 0], [0, -1, 0, 1]]


def test_gower_is_the_mean_over_the_columns_that_both_rows_have() -> None:
    numbers = np.array([[0, 1], [10, np.nan]])  # ranges 10 and 0
    codes = np.array([[0], [1]])
    asked = (np.array([[5.0, 1.0], [np.nan, np.nan]]), np.array([[1], [-1]]))
    found = gower((numbers, codes), asked)
    assert found.tolist() == [pytest.approx([1.5 / 3, 0.5 / 2]), [0, 0]]


def test_rows_in_the_same_leaves_are_equal() -> None:
    items = np.repeat(np.arange(20, dtype=np.float32)[:, None], 2, axis=1)
    embed = forest(items, 4, seed=0)
    assert embed(items).shape == (20, 4)
    near, same, far = embed(np.array([[3, 3], [3, 3], [19, 19]], np.float32))
    assert near.tolist() == same.tolist()
    assert not np.allclose(near, far)
