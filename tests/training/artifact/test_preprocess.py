import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from lookalike.training.artifact.preprocess import Preprocessor, build_preprocessor, fit_preprocessor
from lookalike.training.choices import ScaleKind
from lookalike.training.errors import DataError
from lookalike.training.tables.columns import BOOLEANS, Column, FittedColumn
from lookalike.training.transforms import WindowTransform

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
def test_the_fitted_rows_are_within_the_bounds(rows: NDArray[np.float32], kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(rows, kind)
    scaled = preprocess.apply(torch.from_numpy(rows))
    assert bool(torch.isfinite(scaled).all())
    assert bool((preprocess.low <= scaled).all())
    assert bool((scaled <= preprocess.high).all())


@pytest.mark.parametrize(("kind", "scaler"), [("standard", StandardScaler()), ("column-range", MinMaxScaler())])
def test_columns_are_scaled_as_by_scikit_learn(kind: ScaleKind, scaler: StandardScaler) -> None:
    rows = np.random.default_rng(0).normal(5, [1, 20, 300], (50, 3)).astype(np.float32)
    rows[:, 1] = 7  # a constant column
    expected = scaler.fit_transform(rows.astype(np.float64))
    np.testing.assert_allclose(applied(fit_preprocessor(rows, kind), rows), expected, atol=1e-5)


def test_range_scales_all_columns_together() -> None:
    rows = np.array([[0, 10], [5, 20]], np.float32)
    assert applied(fit_preprocessor(rows, "range"), rows).tolist() == [[0, 0.5], [0.25, 1]]


def test_center_scales_each_column_to_mean_0_and_all_together_to_deviation_1() -> None:
    # Deviations of 1 and 7 about the means 2 and 13; sqrt((1 + 49) / 2) = 5.
    rows = np.array([[1, 6], [3, 20]], np.float32)
    preprocess = fit_preprocessor(rows, "center")
    np.testing.assert_allclose(applied(preprocess, rows), [[-0.2, -1.4], [0.2, 1.4]], rtol=1e-6)
    # The bounds are the least (1) and the greatest (20) value of all columns, scaled by each column.
    np.testing.assert_allclose(preprocess.low, [-0.2, -2.4], rtol=1e-6)
    np.testing.assert_allclose(preprocess.high, [3.6, 1.4], rtol=1e-6)


def test_none_does_not_change_rows() -> None:
    rows = np.array([[1, 6], [3, 20]], np.float32)
    assert applied(fit_preprocessor(rows, "none"), rows).tolist() == rows.tolist()


@pytest.mark.parametrize("kind", ["center", "column-range", "standard"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e7])
def test_a_constant_column_maps_to_0_and_back(kind: ScaleKind, value: float) -> None:
    rows = np.array([[1, value], [2, value], [4, value]], np.float32)
    preprocess = fit_preprocessor(rows, kind)
    assert applied(preprocess, rows)[:, 1].tolist() == [0, 0, 0]
    assert preprocess.invert(preprocess.apply(torch.from_numpy(rows)))[:, 1].tolist() == rows[:, 1].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_rows_stay_finite(kind: ScaleKind) -> None:
    assert np.isfinite(
        applied(fit_preprocessor(np.full((1, 3), 5, np.float32), kind), np.eye(3, dtype=np.float32))
    ).all()


def test_a_spread_too_small_for_float32_counts_as_constant() -> None:
    rows = np.array([[0], [1e-45]], np.float32)
    assert np.isfinite(applied(fit_preprocessor(rows, "standard"), rows)).all()


def test_fitting_in_blocks_equals_fitting_at_once() -> None:
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
def test_tensors_and_kind_determine_a_preprocessor(rows: NDArray[np.float32], kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(rows, kind)
    offset, factor, low, high = preprocess.tensors().values()
    rebuilt = Preprocessor(kind, offset, factor, low, high)
    assert applied(rebuilt, rows).tolist() == applied(preprocess, rows).tolist()


NAN = float("nan")
COLUMNS = (Column("n"), Column("c", "categorical", ("x", "y", "z")), Column("m"), Column("s", "boolean", BOOLEANS))
#                 n  c    m  s
MIXED = np.array([[1, 0, NAN, 0], [3, 1, 4, 1], [5, NAN, 6, 1], [3, 0, 8, NAN]], np.float32)


@given(rows=tables, kind=kinds)
def test_a_table_of_numbers_is_scaled_like_an_array(rows: NDArray[np.float32], kind: ScaleKind) -> None:
    array = fit_preprocessor(rows, kind)
    table = fit_preprocessor(rows, kind, tuple(Column(f"{i}") for i in range(rows.shape[1])))
    differing = rows.min(axis=0) < rows.max(axis=0)
    width = rows.shape[1]
    assert applied(table, rows)[:, :width][:, differing].tolist() == applied(array, rows)[:, differing].tolist()
    assert not applied(table, rows)[:, width:].any()  # the indicators
    for name, tensor in array.tensors().items():
        assert torch.equal(table.tensors()[name][:width], tensor)
    assert (table.mixed, table.features, table.width, table.values) == (True, 2 * width, width, width)


def test_fitting_ignores_missing_values() -> None:
    fitted = fit_preprocessor(MIXED, "standard", COLUMNS).table
    assert fitted is not None
    deviations = (np.sqrt(2), np.sqrt(8 / 3))  # of 1, 3, 5, 3 about 3, and of 4, 6, 8 about 6
    statistics = [(one.column.name, one.missing, one.counts, one.low, one.high, one.mean) for one in fitted.fitted]
    assert statistics == [
        ("n", 0, (), 1, 5, 3),
        ("c", 1, (2, 1, 0), 0, 0, 0),
        ("m", 1, (), 4, 8, 6),
        ("s", 1, (1, 2), 0, 0, 0),
    ]
    factors = [fitted.fitted[place].factor for place in (0, 2)]
    assert factors == pytest.approx([1 / deviation for deviation in deviations])


def test_rows_with_gaps_survive_a_round_trip() -> None:
    preprocess = fit_preprocessor(MIXED, "standard", COLUMNS)
    n, m = np.array([-2, 0, 2, 0]) / np.sqrt(2), np.array([0, -2, 0, 2]) / np.sqrt(8 / 3)
    missing, x, y = [1, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 0]
    none = [0] * 4  # of n missing?, and of c: z
    others = [none, missing, x, y, none, [0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]  # c, s: f t missing
    np.testing.assert_allclose(applied(preprocess, MIXED), np.array([n, m, *others]).T, atol=1e-6)
    back = preprocess.invert(preprocess.apply(torch.from_numpy(MIXED)))
    np.testing.assert_allclose(back, MIXED, atol=1e-5)
    assert (preprocess.mixed, preprocess.width, preprocess.features, preprocess.columns) == (True, 4, 11, COLUMNS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_number_is_its_columns_mean_at_any_scale(kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(MIXED, kind, COLUMNS)
    complete = MIXED.copy()
    complete[0, 2] = 6
    filled, present = applied(preprocess, MIXED)[0], applied(preprocess, complete)[0]
    assert filled[1] == pytest.approx(present[1], abs=1e-6)
    assert (filled[3], present[3]) == (1, 0)


@pytest.mark.parametrize("kind", ["center", "range"])
def test_only_numbers_share_a_unit_not_codes(kind: ScaleKind) -> None:
    rows = MIXED[1:3]  # n and m: 3, 4 and 5, 6; codes up to 1
    numbers = fit_preprocessor(np.ascontiguousarray(rows[:, [0, 2]]), kind)
    preprocess = fit_preprocessor(rows, kind, COLUMNS)
    assert applied(preprocess, rows)[:, :2].tolist() == applied(numbers, rows[:, [0, 2]]).tolist()


def test_categories_and_indicators_are_not_scaled_and_have_no_noise() -> None:
    preprocess = fit_preprocessor(MIXED, "column-range", COLUMNS)
    assert preprocess.offset.tolist() == [1, 4] + [0] * 9
    assert preprocess.noise_unit.tolist() == [1, 1] + [0] * 9
    assert preprocess.low.tolist() == [0, 0] + [0] * 9
    assert preprocess.high.tolist() == [1, 1] + [1] * 9
    assert fit_preprocessor(MIXED, "standard", COLUMNS).noise_unit.tolist() == [1, 1] + [0] * 9


def test_a_masked_value_is_the_least_or_in_a_table_missing() -> None:
    preprocess = fit_preprocessor(MIXED, "column-range", COLUMNS)
    # n and m: the mean, and missing; c: only the slot for missing values; s likewise.
    assert preprocess.masked.tolist() == pytest.approx([0.5, 0.5, 1, 1, 0, 0, 0, 1, 0, 0, 1])
    assert torch.equal(fit_preprocessor(MIXED[1:2], "none").masked, fit_preprocessor(MIXED[1:2], "none").low)


def test_a_constant_column_is_0_for_any_value() -> None:
    rows = np.array([[5, 1], [5, 2]], np.float32)
    preprocess = fit_preprocessor(rows, "standard", (Column("k"), Column("n")))
    assert applied(preprocess, np.array([[1e30, 1], [NAN, 2]], np.float32))[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_may_have_only_categories(kind: ScaleKind) -> None:
    rows = MIXED[:, [1, 3]]
    preprocess = fit_preprocessor(rows, kind, (COLUMNS[1], COLUMNS[3]))
    np.testing.assert_allclose(preprocess.invert(preprocess.apply(torch.from_numpy(rows))), rows)


def test_names_a_column_of_numbers_without_values() -> None:
    rows = np.array([[1, NAN], [2, NAN]], np.float32)
    with pytest.raises(DataError, match="column empty: expected a value in at least one training row"):
        fit_preprocessor(rows, "standard", (Column("n"), Column("empty")))


def test_a_column_may_be_empty_for_longer_than_a_block() -> None:
    rows = np.full((40_000, 2), NAN, np.float32)
    rows[:, 0] = 1
    rows[[5, -2, -1], 1] = [1, 2, 6]
    preprocess = fit_preprocessor(rows, "standard", (Column("k"), Column("late")))
    assert preprocess.offset.tolist() == [1, 3, 0, 0]
    assert float(preprocess.factor[1]) == pytest.approx(1 / np.sqrt(14 / 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_fitted_columns_determine_a_table(kind: ScaleKind) -> None:
    preprocess = fit_preprocessor(MIXED, kind, COLUMNS)
    assert preprocess.table is not None
    rebuilt = build_preprocessor(kind, preprocess.table.fitted)
    assert applied(rebuilt, MIXED).tolist() == applied(preprocess, MIXED).tolist()
    assert torch.equal(rebuilt.high, preprocess.high)
    assert isinstance(preprocess.table.fitted[0], FittedColumn)


def test_moves_all_tensors_to_a_device() -> None:
    preprocess = fit_preprocessor(MIXED, "standard", COLUMNS).to(torch.device("meta"))
    assert preprocess.apply(torch.empty(3, 4, device="meta")).shape == (3, 11)
    assert preprocess.table is not None
    assert preprocess.table.members.is_meta


def test_decoded_logits_cover_the_range_from_the_least_to_the_greatest_value() -> None:
    rows = np.array([[0, 10], [4, 10], [2, 10]], np.float32)
    preprocess = fit_preprocessor(rows, "standard")
    logits = torch.tensor([[0.0, 0.0], [100.0, -100.0], [math.log(3), 5.0]])
    assert preprocess.decode(logits, logits=True).tolist() == [
        [pytest.approx(v) for v in row] for row in ([2, 10], [4, 10], [3, 10])
    ]
    assert torch.equal(preprocess.decode(logits, logits=False), preprocess.invert(logits))


def test_decoder_output_changes_only_if_it_is_logits() -> None:
    preprocess = fit_preprocessor(np.array([[0, 10], [4, 30]], np.float32), "none")
    output = torch.tensor([[0.0, math.log(3)], [-100.0, 100.0]])
    assert preprocess.output_features(output, logits=False).tolist() == output.tolist()
    # From 0 to 4, and from 10 to 30: a half and three quarters of the way, then the ends.
    assert preprocess.output_features(output, logits=True).tolist() == [pytest.approx([2, 25]), pytest.approx([0, 30])]


@pytest.mark.parametrize("kind", KINDS)
def test_output_features_have_the_unit_of_the_models_input(kind: ScaleKind) -> None:
    rows = np.array([[0, 10], [4, 30], [1, 12]], np.float32)
    preprocess = fit_preprocessor(rows, kind)
    scaled = preprocess.apply(torch.from_numpy(rows))
    shares = (scaled - preprocess.low) / (preprocess.high - preprocess.low)
    np.testing.assert_allclose(preprocess.output_features(shares.logit(), logits=True), scaled, atol=1e-5)


def test_only_a_tables_numbers_are_logits_of_shares() -> None:
    preprocess = fit_preprocessor(MIXED, "column-range", COLUMNS)
    output = torch.linspace(-3, 3, 22).reshape(2, 11)
    features = preprocess.output_features(output, logits=True)
    np.testing.assert_allclose(features[:, :2], output[:, :2].sigmoid(), atol=1e-6)  # their range is 0 to 1
    assert features[:, 2:].tolist() == output[:, 2:].tolist()
    assert torch.equal(preprocess.output_features(output, logits=False), output)
    assert torch.equal(preprocess.invert(features).isnan(), preprocess.decode(output, logits=True).isnan())


poison = st.floats(1e7, float(np.finfo(np.float32).max), width=32).flatmap(lambda size: st.sampled_from([size, -size]))


@settings(max_examples=60)
@given(value=poison, row=st.integers(0, 99), whole=st.booleans(), kind=kinds, named=st.booleans())
def test_a_value_far_from_all_others_does_not_affect_the_scale(
    value: float, row: int, whole: bool, kind: ScaleKind, named: bool
) -> None:
    rows = np.random.default_rng(0).uniform(-3, 5, (100, 3)).astype(np.float32)
    changed = rows.copy()
    changed[row, None if whole else 1] = value
    columns = tuple(map(Column, "abc")) if named else ()
    expected = fit_preprocessor(np.delete(rows, row, axis=0), kind, columns)
    found = fit_preprocessor(changed, kind, columns)
    for name in ("offset", "factor", "low", "high"):
        actual, reference = (getattr(one, name).numpy()[1] for one in (found, expected))
        np.testing.assert_allclose(actual, reference, rtol=1e-2 if kind == "center" and not whole else 1e-6)
    scaled = applied(found, changed)
    assert np.isfinite(scaled).all()
    end = 11 * found.high - 10 * found.low if value > 0 else 11 * found.low - 10 * found.high
    assert scaled[row, 1] == pytest.approx(float(end[1]), rel=1e-4)
    near = np.delete(scaled, row, axis=0)
    assert (near >= found.low.numpy()).all()
    assert (near <= found.high.numpy()).all()


def test_a_value_outside_ten_widths_of_the_fitted_range_counts_as_the_nearest_end() -> None:
    """The fitted range is 0 to 4 in the first column, so the known range is -40 to 44."""
    rows = np.array([[0, 100], [4, 300]], np.float32)
    preprocess = fit_preprocessor(rows, "column-range")
    queries = np.array([[-40, 2_300], [-41, 2_301], [44, -1_900], [3e38, -3e38]], np.float32)
    assert applied(preprocess, queries).tolist() == [[-10, 11], [-10, 11], [11, -10], [11, -10]]
    assert preprocess.outside(queries).tolist() == [[1, 0], [1, 1], [3, 0], [3, 1]]
    clipped = preprocess.clipped(queries, ["a", "b", "c", "d"])
    assert clipped.count == 4
    assert str(clipped.values[3]) == "row d, column 1: -3e+38 (known: -1900 to 2300)"


def test_a_tables_numbers_that_varied_in_training_are_clipped_and_named() -> None:
    """A missing value, a category and a number that never varied have no range."""
    columns = (Column("size"), Column("color", "categorical", ("blue", "red")), Column("year"))
    rows = np.array([[1, 0, 2_024], [2, 1, 2_024], [np.nan, 1, 2_024]], np.float32)
    preprocess = fit_preprocessor(rows, "none", columns)
    queries = np.array([[1e9, 1, 3e38], [np.nan, np.nan, np.nan], [-8, 0, 2_024]], np.float32)
    clipped = preprocess.clipped(queries, range(3))
    assert [str(one) for one in clipped.values] == ["row 0, column size: 1e+09 (known: -9 to 12)"]
    assert applied(preprocess, queries)[0, :2].tolist() == [12, 2_024]
    assert preprocess.limits[0].tolist() == [-9, -np.inf, -np.inf]


def test_channel_gives_all_samples_of_a_channel_one_scale() -> None:
    # Channel a: 1, 3, 5, 7 with mean 4 and deviation sqrt(5). Channel b: 10 and 30 twice, so mean 20, deviation 10.
    rows = np.array([[1, 10, 3, 30], [5, 30, 7, 10]], np.float32)
    windows = WindowTransform(window=2, hop=1, channels=("a", "b"))
    preprocess = fit_preprocessor(rows, "channel", windows=windows)
    root = math.sqrt(5)
    expected = [[-3 / root, -1, -1 / root, 1], [1 / root, 1, 3 / root, -1]]
    np.testing.assert_allclose(applied(preprocess, rows), expected, rtol=1e-6)
    assert preprocess.noise_unit.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(preprocess.low.numpy(), [-3 / root, -1] * 2, rtol=1e-6)


def test_without_windows_channel_is_standard() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    channel, standard = (applied(fit_preprocessor(rows, kind), rows) for kind in ("channel", "standard"))
    assert channel.tolist() == standard.tolist()


def test_windows_are_normalized_before_they_are_scaled() -> None:
    # Each window becomes (-1, 1) or (1, -1), whatever its level and size, and so has mean 0 and deviation 1 over all.
    rows = np.array([[0, 2], [1_000, 1_001], [5, -5], [1e6, -1e6]], np.float32)
    windows = WindowTransform(window=2, hop=1, channels=("a",), normalize="standard")
    preprocess = fit_preprocessor(rows, "channel", windows=windows)
    np.testing.assert_allclose(applied(preprocess, rows), [[-1, 1], [-1, 1], [1, -1], [1, -1]], rtol=1e-6)
    far = np.array([[1e30, -1e30]], np.float32)
    assert len(preprocess.outside(far)) == 0
    assert preprocess.clipped(far, ["far"]).count == 0


def test_a_missing_column_has_no_difference() -> None:
    preprocess = fit_preprocessor(MIXED, "column-range", COLUMNS)
    features = preprocess.apply(torch.tensor([[3.0, NAN, NAN, 1.0]]))
    assert features.tolist() == [[0.5, 0.5, 0, 1, 0, 0, 0, 1, 0, 1, 0]]
    output = torch.tensor([[0.75, 9, 0, 9, 9, 9, 9, 9, 0.25, 0.75, 0]])
    differences, root = preprocess.differences(output, features, logits=False)
    # n differs by 1/4 and its indicator, of logit 0, by 1/2; m and c are missing; s differs by 1/4 in two slots.
    assert differences.tolist() == [[0.25, 0, 0.5, 0, 0, 0, 0, 0, 0.25, -0.25, 0]]
    assert float(root) == pytest.approx(math.sqrt(5))


def test_all_features_of_an_array_count() -> None:
    preprocess = fit_preprocessor(np.array([[0, 1], [2, 3]], np.float32), "none")
    differences, root = preprocess.differences(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 3.0]]), logits=False)
    assert (differences.tolist(), root) == ([[0.5, -1.0]], math.sqrt(2))
