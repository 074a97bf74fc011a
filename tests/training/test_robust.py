import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from lookalike.training.robust import LONGEST, trimmed_mean, weights, winsorized

LARGEST = float(np.finfo(np.float32).max)
any_size = st.floats(1, LARGEST, width=32).flatmap(lambda size: st.sampled_from([size, -size]))


@given(value=any_size, place=st.integers(0, 99))
def test_one_value_moves_a_trimmed_mean_by_no_more_than_the_others_differ(value: float, place: int) -> None:
    """Without the five least and the five greatest, 0 to 99 become 5 to 94, whose mean is 49.5.

    Changing one value shifts at most one end of the rest by one: a sum of 90 values changes by less than 95 - 5 = 90.
    """
    values = np.arange(100.0)
    assert trimmed_mean(values) == 49.5
    values[place] = value
    assert abs(trimmed_mean(values) - 49.5) <= 1


def test_equals_scipys_trimmed_mean_except_that_few_values_lose_one_at_each_end() -> None:
    values = np.random.default_rng(0).lognormal(size=(7, 200))
    np.testing.assert_allclose(trimmed_mean(values), trim_mean(values, 0.05, axis=1))
    np.testing.assert_allclose(trimmed_mean(values, axis=0), [np.sort(column)[1:-1].mean() for column in values.T])
    assert (trimmed_mean(np.array([1.0, 2, 9])), trimmed_mean(np.array([1.0, 2])), trimmed_mean(np.array([3.0]))) == (
        *(2, 1.5, 3),
    )
    assert trimmed_mean(np.array([np.inf, 1, 2, -np.inf])) == 1.5


def test_ordinary_rows_have_full_weight_and_a_long_row_that_of_the_limit() -> None:
    rows = np.array([[3, 4], [0, 5], [5, 0], [0, 0], [0, 1], [0, -300]], np.float32)  # the median of 1, 5, 5, 5, 300
    assert weights(rows)[:, 0].tolist() == [1, 1, 1, 1, 1, LONGEST * 5 / 300]
    assert weights(np.zeros((3, 2), np.float32)).tolist() == [[1]] * 3
    assert weights(np.empty((0, 2), np.float32)).shape == (0, 1)
    near = np.random.default_rng(0).normal(5, 1, (500, 8)).astype(np.float32)
    np.testing.assert_allclose(winsorized(near), near, rtol=1e-12)


@settings(max_examples=50)
@given(value=any_size, row=st.integers(0, 99), whole=st.booleans())
def test_a_row_of_any_size_moves_shortened_rows_by_a_bounded_amount(value: float, row: int, whole: bool) -> None:
    """No row is farther from the medians than LONGEST times the median length.

    So one of a hundred rows moves the mean by a hundredth of that, twice at most.
    """
    rows = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    clean = winsorized(rows)
    rows[row, None if whole else 2] = value
    changed = winsorized(rows)
    assert np.isfinite(changed).all()
    middle = np.median(rows, axis=0).astype(np.float64)
    reach = 1.0001 * LONGEST * float(np.median(np.linalg.norm(rows - middle, axis=1)))
    assert float(np.linalg.norm(changed - middle, axis=1).max()) <= reach
    assert float(np.linalg.norm(changed.mean(axis=0) - clean.mean(axis=0))) <= 2 * reach / 100
    np.testing.assert_allclose(np.delete(changed, row, axis=0), np.delete(clean, row, axis=0), atol=1e-6)
