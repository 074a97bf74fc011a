import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.training.tables.origin import (
    Origin,
    absolute,
    find_base,
    find_origin,
    is_blurred,
    is_coarse,
    is_merged,
    minus_base,
    relative,
)

EPOCH = 1_760_000_000.0
"""A time in seconds since 1970; float32 rounds it to a multiple of 128."""


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)[:, None]


def found(*values: float) -> float:
    """The origin of one column."""
    origin = find_origin(column(*values))
    return 0.0 if origin is None else float(origin[0])


def test_the_origin_is_subtracted_in_float64() -> None:
    rows = np.array([[EPOCH + 0.25, 1.5], [EPOCH + 30, np.nan]])
    np.testing.assert_array_equal(relative(rows, np.array([EPOCH, 0])), [[0.25, 1.5], [30, np.nan]])
    assert relative(rows, None)[:, 0].tolist() == [EPOCH, EPOCH]  # both are the same multiple of 128


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<u8", "<f8", ">f8", "g"])
def test_subtracts_from_numbers_of_any_type(dtype: str) -> None:
    rows = np.array([[1_760_000_000_000_000_256], [1_760_000_000_000_000_000]]).astype(dtype)
    result = relative(rows, np.array([1.76e18]))
    assert result.tolist() == [[256], [0]]
    assert result.dtype == np.float32
    assert result.flags.c_contiguous


@pytest.mark.parametrize(("dtype", "values"), [("?", [[True], [False]]), ("u1", [[1], [0]]), ("<f2", [[1], [0]])])
def test_small_numbers_are_exact(dtype: str, values: list[list[float]]) -> None:
    assert relative(np.array(values, dtype), None).tolist() == [[1], [0]]
    assert relative(np.array(values, dtype), np.array([1.0])).tolist() == [[0], [-1]]


def test_values_beyond_float32_become_infinite() -> None:
    assert relative(column(1e39, -1e39), None).tolist() == [[np.inf], [-np.inf]]
    assert relative(column(1e38 + 1e30), np.array([1e38])).tolist() == [[pytest.approx(1e30, rel=1e-6)]]


def test_copies_float32_rows_only_if_they_are_read_only() -> None:
    rows = np.ones((2, 3), np.float32)
    assert relative(rows, None) is rows
    rows.flags.writeable = False
    assert relative(rows, None).flags.writeable


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.floats(-1e12, 1e12))
def test_rows_survive_a_round_trip_to_the_last_bits(values: list[float], origin: float) -> None:
    rows = column(*values) + origin
    back = absolute(relative(rows, np.array([origin])), np.array([origin]))
    np.testing.assert_allclose(back, rows, rtol=1e-15, atol=0.1)  # float32 has steps of 1/16 at 1e6
    assert absolute(rows, None) is rows


@pytest.mark.parametrize(
    ("values", "origin"),
    [
        ((EPOCH + 1.5, EPOCH + 17.25, EPOCH + 33), EPOCH),
        ((-EPOCH - 1.5, -EPOCH - 17.25, -EPOCH - 33), -EPOCH),
        ((EPOCH + 1.5, np.nan, EPOCH + 17.25, EPOCH + 33, np.nan), EPOCH),
        ((0, 0, *(EPOCH + 4.5 * i for i in range(9))), EPOCH),  # 0 means a missing value
        ((1.76e18 + 1e9, 1.76e18 + 3.1e10, 1.76e18 + 256), 1.76e18),  # the same times in nanoseconds
        ((1000.1, 1000.2, 1000.35), 1000),
        ((5.1, 5.2, 5.3), 0),  # near 0 compared with their spread
        ((EPOCH, EPOCH + 128, EPOCH + 256), 0),  # float32 holds them exactly
        ((16_777_215, 16_777_214, 16_777_210), 0),
        ((16_777_217, 16_777_219, 16_777_221), 16_777_220),
        ((0, 1), 0),
        ((np.nan, np.nan), 0),
    ],
)
def test_a_column_has_an_origin_if_float32_makes_its_values_equal(values: tuple[float, ...], origin: float) -> None:
    assert found(*values) == origin


def test_a_constant_is_its_own_origin_if_float32_does_not_hold_it() -> None:
    assert found(EPOCH + 0.25, EPOCH + 0.25) == pytest.approx(EPOCH + 0.25, abs=1e-3)
    assert found(EPOCH, EPOCH) == found(7, 7) == 0


def test_each_column_has_its_own_origin_and_ordinary_rows_have_none() -> None:
    rows = np.random.default_rng(0).normal(size=(99, 3))
    assert find_origin(rows) is None
    origin = find_origin(rows + np.array([0, 1e6, -1e9]))
    assert origin is not None
    assert origin.tolist() == [0, 1e6, -1e9]


def test_shifted_rows_are_the_same_minus_their_origin() -> None:
    """Property: a time in whole seconds from any start, as far as float64 holds it."""
    rng = np.random.default_rng(1)
    near = rng.integers(0, 1_000, (50, 2)) / 8
    for start in rng.integers(1 << 25, 1 << 40, 50) * 1_000.0:
        assert np.array_equal(relative(near + start, find_origin(near + start)) + _step(near + start, start), near)


def _step(rows: NDArray[np.float64], start: float) -> NDArray[np.float64]:
    origin = find_origin(rows)
    return np.zeros(2) if origin is None else origin - start


@pytest.mark.parametrize(
    ("values", "origin", "blurred"),
    [
        ((EPOCH + 1.5, EPOCH + 17.25, EPOCH + 33), None, True),
        ((EPOCH + 1.5, EPOCH + 17.25, EPOCH + 33), np.array([EPOCH]), False),
        ((1.1, 2.2, 3.3, np.nan), None, False),
        ((*(EPOCH + i for i in range(9)), *(EPOCH / 2 + i for i in range(9))), np.array([EPOCH]), True),  # two groups
    ],
)
def test_a_column_is_blurred_if_its_values_become_equal(
    values: tuple[float, ...], origin: Origin, blurred: bool
) -> None:
    assert is_blurred(column(*values), origin).tolist() == [blurred]


@pytest.mark.parametrize(
    ("values", "coarse"),
    [
        (EPOCH + 60.0 * np.arange(300), True),  # a minute apart: 140 values are left of 300
        (np.full(300, EPOCH + 30), True),  # in float32 all times of a minute are equal
        (EPOCH + 86_400.0 * np.arange(300), False),  # days
        (np.full(300, 0.1), False),
        (np.full(300, 255.0), False),
        (101_325 + np.random.default_rng(0).normal(0, 10, 300), False),  # a pressure: 1,280 values within the spread
        (np.random.default_rng(0).normal(0, 1, 300), False),
        (np.full(300, np.nan), False),
    ],
)
def test_detects_float32_values_that_were_rounded_before(values: NDArray[np.float64], coarse: bool) -> None:
    rows = np.stack([values, np.zeros(300)], axis=1).astype(np.float32)
    assert is_coarse(rows).tolist() == [coarse, False]


NANO = 1_700_000_000_000_000_000
"""A time in nanoseconds since 1970; float64 rounds it to a multiple of 256."""


@pytest.mark.parametrize(
    ("low", "high", "base"),
    [
        (NANO, NANO + 39, NANO),
        (-NANO - 39, -NANO, -NANO - 39),
        (2**64 - 5, 2**64 - 1, 2**64 - 5),
        (2**53, 2**53 + 1, 2**53),
        (0, 2**53, 0),
        (1_700_000_000, 1_800_000_000, 0),
        (-(2**63), 2**63 - 1, 0),
        (0, 2**60, 0),
    ],
)
def test_whole_numbers_that_float64_does_not_hold_have_a_base(low: int, high: int, base: int) -> None:
    assert find_base(low, high) == base


@pytest.mark.parametrize(
    ("dtype", "values", "base", "expected"),
    [
        ("i8", [NANO, NANO + 1, NANO - 1], NANO, [0, 1, -1]),
        (">i8", [NANO + 3], NANO, [3]),
        ("u8", [2**64 - 1, 2**64 - 2], 2**64 - 2, [1, 0]),
        ("i8", [-NANO], -NANO - 7, [7]),
        ("i8", [-(2**63)], 2**63 - 1, [-(2.0**64)]),
        ("i4", [5], NANO, [5 - NANO]),
        ("f8", [float(NANO), np.nan], NANO, [0, np.nan]),
    ],
)
def test_the_base_is_subtracted_in_integers(dtype: str, values: list[float], base: int, expected: list[float]) -> None:
    np.testing.assert_array_equal(minus_base(np.array(values, dtype), base), expected)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_a_difference_to_the_base_is_that_of_integers(value: int, base: int) -> None:
    difference = minus_base(np.array([value], np.int64), base)[0]
    assert difference == pytest.approx(value - base, rel=1e-15)
    if abs(value - base) <= 2**53:
        assert difference == value - base


def test_integers_are_merged_if_float64_makes_them_equal() -> None:
    rows = np.array([[NANO + row, row, 2**40 + row] for row in range(10)])
    assert is_merged(rows).tolist() == [True, False, False]
