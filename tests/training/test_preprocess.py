from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from training.preprocess import Preprocessor, ScaleKind, fit_preprocessor

KINDS = get_args(ScaleKind)
finite = st.floats(-1e4, 1e4, width=32)
tables = arrays.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=finite)
kinds = st.sampled_from(KINDS)


def applied(preprocess: Preprocessor, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return preprocess.apply(torch.from_numpy(rows)).numpy()


@given(rows=tables, kind=kinds)
def test_inverting_undoes_applying(rows: NDArray[np.float32], kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(rows, kind)
    back = preprocess.invert(preprocess.apply(torch.from_numpy(rows))).numpy()
    np.testing.assert_allclose(back, rows, atol=1e-6 * max(1e-6, float(np.abs(rows).max())), rtol=1e-6)


@given(rows=tables, kind=kinds)
def test_the_fitted_rows_lie_within_the_bounds(rows: NDArray[np.float32], kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(rows, kind)
    scaled = preprocess.apply(torch.from_numpy(rows))
    assert bool(torch.isfinite(scaled).all())
    assert bool((preprocess.low <= scaled).all())
    assert bool((scaled <= preprocess.high).all())


@pytest.mark.parametrize(("kind", "scaler"), [("standard", StandardScaler()), ("column-range", MinMaxScaler())])
def test_columns_are_scaled_as_scikit_learn_scales_them(kind: ScaleKind, scaler: StandardScaler) -> None:
    rows = np.random.default_rng(0).normal(5, [1, 20, 300], (50, 3)).astype(np.float32)
    rows[:, 1] = 7  # a constant column
    expected = scaler.fit_transform(rows.astype(np.float64))
    np.testing.assert_allclose(applied(fit_preprocessor(rows, kind), rows), expected, atol=1e-5)


def test_range_takes_all_columns_together() -> None:
    rows = np.array([[0, 10], [5, 20]], np.float32)
    assert applied(fit_preprocessor(rows, "range"), rows).tolist() == [[0, 0.5], [0.25, 1]]


def test_center_gives_each_column_mean_0_and_all_together_deviation_1() -> None:
    # Deviations of 1 and 7 about the means 2 and 13; sqrt((1 + 49) / 2) = 5.
    rows = np.array([[1, 6], [3, 20]], np.float32)
    preprocess = fit_preprocessor(rows, "center")
    np.testing.assert_allclose(applied(preprocess, rows), [[-0.2, -1.4], [0.2, 1.4]], rtol=1e-6)
    # The bounds are the least (1) and the greatest (20) value of all, seen from each column.
    np.testing.assert_allclose(preprocess.low, [-0.2, -2.4], rtol=1e-6)
    np.testing.assert_allclose(preprocess.high, [3.6, 1.4], rtol=1e-6)


def test_none_leaves_rows_as_they_are() -> None:
    rows = np.array([[1, 6], [3, 20]], np.float32)
    assert applied(fit_preprocessor(rows, "none"), rows).tolist() == rows.tolist()


@pytest.mark.parametrize("kind", ["center", "column-range", "standard"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e7])
def test_a_constant_column_maps_to_0_and_comes_back(kind: ScaleKind, value: float) -> None:
    rows = np.array([[1, value], [2, value], [4, value]], np.float32)
    preprocess = fit_preprocessor(rows, kind)
    assert applied(preprocess, rows)[:, 1].tolist() == [0, 0, 0]
    assert preprocess.invert(preprocess.apply(torch.from_numpy(rows)))[:, 1].tolist() == rows[:, 1].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_all_the_same_stay_finite(kind: ScaleKind) -> None:
    assert np.isfinite(
        applied(fit_preprocessor(np.full((1, 3), 5, np.float32), kind), np.eye(3, dtype=np.float32))
    ).all()


def test_a_spread_too_small_for_float32_counts_as_constant() -> None:
    rows = np.array([[0], [1e-45]], np.float32)
    assert np.isfinite(applied(fit_preprocessor(rows, "standard"), rows)).all()


def test_fitting_in_blocks_is_fitting_at_once() -> None:
    rows = np.random.default_rng(1).normal(1e4, 1, (40_000, 2)).astype(np.float32)
    preprocess = fit_preprocessor(rows, "standard")
    np.testing.assert_allclose(preprocess.offset, rows.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(1 / preprocess.factor, rows.std(axis=0, dtype=np.float64), rtol=1e-5)


def test_rows_outside_the_fitted_range_are_not_clipped() -> None:
    preprocess = fit_preprocessor(np.array([[0], [2]], np.float32), "range")
    assert applied(preprocess, np.array([[-2], [4]], np.float32)).tolist() == [[-1], [2]]


@pytest.mark.parametrize(("kind", "unit"), [("standard", [1, 1]), ("column-range", [1, 1]), ("none", [2, 10])])
def test_the_unit_of_noise_is_the_range_or_a_standard_deviation(kind: ScaleKind, unit: list[float]) -> None:
    rows = np.array([[1, 10], [3, 20]], np.float32)
    assert fit_preprocessor(rows, kind).noise_unit.tolist() == pytest.approx(unit)


@settings(max_examples=10)
@given(rows=tables, kind=kinds)
def test_its_tensors_and_kind_are_all_there_is_to_it(rows: NDArray[np.float32], kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(rows, kind)
    again = Preprocessor(kind, **preprocess.tensors())
    assert applied(again, rows).tolist() == applied(preprocess, rows).tolist()
