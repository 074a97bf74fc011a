import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.training.artifact.known_range import FAR, Clipped, ClippedValue, allowed, far_rows, known_range

LARGEST = float(np.finfo(np.float32).max)


def far(rows: NDArray[np.float32], *, together: bool = False) -> dict[int, list[int]]:
    edges = np.fmin.reduce(rows).astype(np.float64), np.fmax.reduce(rows).astype(np.float64)
    return {column: places.tolist() for column, places in far_rows(rows, edges, together=together).items()}


def rising(count: int = 100) -> NDArray[np.float32]:
    """Two columns of 0, 1, ... and their negatives."""
    values = np.arange(count, dtype=np.float32)
    return np.stack([values, -values], axis=1)


def test_the_known_range_adds_ten_widths_or_a_thousand_times_the_size_of_a_constant() -> None:
    low, high = known_range(
        torch.tensor([1.0, 0.5, -7.0, -3e38]).double(), torch.tensor([3.0, 0.5, -7.0, 3e38]).double()
    )
    assert low.tolist() == [-19, -999.5, -7007, -LARGEST]
    assert high.tolist() == [23, 1000.5, 6993, LARGEST]


@settings(max_examples=50)
@given(
    value=st.floats(1e6, LARGEST, width=32),
    sign=st.sampled_from([-1, 1]),
    row=st.integers(0, 99),
    columns=st.sampled_from([(0,), (1,), (0, 1)]),
    together=st.booleans(),
)
def test_a_value_of_any_size_beyond_a_hundred_widths_is_far(
    value: float, sign: int, row: int, columns: tuple[int, ...], together: bool
) -> None:
    """The range of nearly all others is at most 99 wide, and of both columns together 198."""
    rows = rising()
    rows[row, list(columns)] = sign * value
    assert far(rows, together=together) == {column: [row] for column in columns}


def test_the_limit_is_a_hundred_widths_of_the_range_of_the_near_values() -> None:
    """Of 100 values the 5 farthest from the median, 50, are left out: 0 to 2, 98 and 99. The rest is 3 to 97."""
    rows = rising()[:, :1]
    limit = 97 + FAR * 94
    rows[99] = np.nextafter(np.float32(limit), np.float32(0))
    assert far(rows) == {}
    rows[99] = np.nextafter(np.float32(limit), np.float32(1e9))
    assert far(rows) == {0: [99]}


@pytest.mark.parametrize(("count", "most"), [(9, 0), (10, 1), (39, 1), (40, 2), (1_000, 50)])
def test_a_few_values_may_be_far_but_not_more(count: int, most: int) -> None:
    assert allowed(np.array([count])).tolist() == [most]
    for others in (most, most + 1):
        rows = np.arange(count, dtype=np.float32)[:, None]
        rows[:others] = LARGEST
        assert far(rows) == ({0: list(range(others))} if 0 < others <= most else {})


def test_ordinary_columns_have_no_far_values() -> None:
    rng = np.random.default_rng(0)
    normal, heavy = rng.normal(size=10_000), rng.lognormal(0, 2, 10_000)
    rare = (rng.random(10_000) < 0.001) * rng.lognormal(0, 1, 10_000)
    flag, flat, year = rng.random(10_000) < 0.0003, np.full(10_000, 5), np.where(normal > 3, 2_024, 2_025)
    assert far(np.stack([normal, heavy, rare, flag, flat, year], axis=1).astype(np.float32)) == {}


def test_in_a_nearly_constant_column_the_rare_values_determine_what_is_far() -> None:
    """99 % are 0; half of the others are 4 or less, so the limit is 100 times 4."""
    rows = np.zeros((1_000, 1), np.float32)
    rows[::100, 0] = [1, 2, 3, 4, 4, 5, 6, 7, 400, 401]
    assert far(rows) == {0: [900]}


def test_missing_values_are_ignored() -> None:
    rows = rising()
    rows[::2] = np.nan
    rows[7, 0] = 3e38
    assert far(rows) == {0: [7]}
    assert far(np.full((100, 1), np.nan, np.float32)) == {}


def test_the_text_of_clipped_values_has_row_column_value_and_range() -> None:
    first = ClippedValue("a", "cost", 3e38, -19.0, 23.0)
    assert str(first) == "row a, column cost: 3e+38 (known: -19 to 23)"
    both = Clipped(1, (first,)).joined(Clipped(3, (ClippedValue(7, 2, -1e9, 0.0, 1.0),) * 3))
    assert both.count == 4
    assert both.text(2) == f"{first}; row 7, column 2: -1e+09 (known: 0 to 1); and 2 more"
    assert Clipped().joined(Clipped()).text() == ""
