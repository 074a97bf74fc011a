from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, Rows, read_sample
from lookalike.training.rows.base import CHUNK_BYTES
from lookalike.training.tables.columns import Column
from tests.factories import array_rows


def counting(count: int, labels: list[Any] | None = None) -> Rows:
    """Rows (0, 0), (1, 1), (2, 2), ..."""
    return array_rows(np.repeat(np.arange(count, dtype=np.float32)[:, None], 2, axis=1), labels)


def lying(count: int, given: int) -> Rows:
    """A source that claims `count` rows and gives others."""

    def read(size: int) -> Iterator[Chunk]:
        yield Chunk([str(i) for i in range(given)], np.zeros((given, 2), np.float32), [{}] * given)

    return Rows("lying", (2,), count, False, read)


@given(count=st.integers(1, 40), size=st.integers(1, 50))
def test_chunks_give_every_row_once_and_in_order(count: int, size: int) -> None:
    chunks = list(counting(count).chunks(size))
    assert [row for chunk in chunks for row in chunk.inputs[:, 0]] == list(range(count))
    assert [name for chunk in chunks for name in chunk.ids] == [str(i) for i in range(count)]
    assert max(len(chunk.inputs) for chunk in chunks) <= size


def test_rows_can_be_read_again() -> None:
    rows = counting(5)
    assert len(list(rows.chunks(2))) == len(list(rows.chunks(2))) == 3


@pytest.mark.parametrize(("width", "rows_a_chunk"), [(8, CHUNK_BYTES // 32), (CHUNK_BYTES, 1)])
def test_a_chunk_is_bounded_in_bytes_but_holds_a_row(width: int, rows_a_chunk: int) -> None:
    asked: list[int] = []

    def read(size: int) -> Iterator[Chunk]:
        asked.append(size)
        return iter(())

    with pytest.raises(DataError):
        list(Rows("empty", (width,), 1, False, read).chunks())
    assert asked == [rows_a_chunk]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_value_that_is_no_number_is_named_by_row_and_column(value: float, size: int) -> None:
    inputs = np.zeros((10, 2), np.float32)
    inputs[[7, 9], [1, 0]] = value
    with pytest.raises(DataError, match="memory, row 7, column 1: expected a finite number"):
        list(array_rows(inputs).chunks(size))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_a_source_without_values_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="at least one row and one column"):
        list(array_rows(np.zeros(shape, np.float32)).chunks())


@pytest.mark.parametrize("given_rows", [2, 4])
def test_a_source_that_gives_other_than_it_claimed_is_refused(given_rows: int) -> None:
    with pytest.raises(DataError, match=f"lying: expected 3 rows, found {given_rows}"):
        list(lying(3, given_rows).chunks())


def test_the_width_is_the_product_of_the_shape() -> None:
    assert Rows("pictures", (4, 5, 3), 1, True, lambda size: iter(())).width == 60


@given(count=st.integers(1, 40), most=st.integers(1, 50), seed=st.integers(0, 9))
def test_a_sample_is_all_rows_or_as_many_as_allowed_in_order_with_their_labels(
    count: int, most: int, seed: int
) -> None:
    inputs, labels = read_sample(counting(count, list(range(count))), most, seed)
    picked = inputs[:, 0].tolist()
    assert len(picked) == min(count, most)
    assert picked == sorted(set(picked)) == labels
    assert picked == read_sample(counting(count), most, seed)[0][:, 0].tolist()


def test_a_sample_is_drawn_evenly_over_the_whole() -> None:
    drawn = np.concatenate([read_sample(counting(10), 3, seed)[0][:, 0] for seed in range(1_000)])
    shares = np.bincount(drawn.astype(int), minlength=10) / 1_000
    np.testing.assert_allclose(shares, 0.3, atol=0.06)  # some four standard deviations


def test_rows_without_labels_have_none() -> None:
    assert read_sample(counting(3), 9, 0)[1] == [None, None, None]


def test_a_bad_row_is_found_though_it_is_not_in_the_sample() -> None:
    inputs = np.zeros((100, 1), np.float32)
    inputs[99] = np.nan
    with pytest.raises(DataError, match="row 99"):
        read_sample(array_rows(inputs), 1, seed=0)


def test_reading_tells_how_far_it_is() -> None:
    told: list[int] = []
    read_sample(counting(7), 3, 0, told.append)
    assert sum(told) == 7


def gappy(*, gaps: bool) -> Rows:
    """Three rows of one column x: 1, nothing, 3."""

    def read(size: int) -> Iterator[Chunk]:
        yield Chunk(["0", "1", "2"], np.array([[1], [np.nan], [3]], np.float32), [{}] * 3)

    return Rows("gappy", (1,), 3, False, read, columns=(Column("x"),), gaps=gaps)


def test_values_may_be_missing_only_where_gaps_may_be() -> None:
    (chunk,) = gappy(gaps=True).chunks()
    np.testing.assert_array_equal(chunk.inputs, [[1], [np.nan], [3]])
    with pytest.raises(DataError, match="gappy, row 1, column x: expected a finite number"):
        list(gappy(gaps=False).chunks())


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_where_gaps_may_be(value: float) -> None:
    def read(size: int) -> Iterator[Chunk]:
        yield Chunk(["0"], np.array([[np.nan, value]], np.float32), [{}])

    rows = Rows("far", (2,), 1, False, read, columns=(Column("x"), Column("y")), gaps=True)
    with pytest.raises(DataError, match=r"far, row 0, column y: expected a finite number .*, found infinity"):
        list(rows.chunks())


def test_only_a_table_is_opened_again_and_only_for_something_else() -> None:
    asked: list[dict[str, Any]] = []
    plain = counting(2)

    def reopen(**given: Any) -> Rows:
        asked.append(given)
        return plain

    table = replace(plain, columns=(Column("x"),), categories=64, reopen=reopen)
    assert plain.suited((Column("y"),)) is plain
    assert plain.with_categories(3) is plain
    assert table.suited((Column("x"),)) is table
    assert table.with_categories(64) is table
    assert replace(table, categories=None).with_categories(3).categories is None
    assert asked == []
    assert table.suited((Column("y"),)) is plain
    assert table.with_categories(3) is plain
    assert asked == [{"columns": (Column("y"),)}, {"categories": 3}]


FAR = np.array([[1.76e9 + 0.25, 1.0], [1.76e9 + 30, 2.0], [1.76e9 + 31, 3.0]])


def test_rows_are_given_as_float32_or_as_the_source_holds_them() -> None:
    rows = array_rows(FAR)
    assert [chunk.inputs.dtype for chunk in rows.chunks(2)] == [np.float32, np.float32]
    np.testing.assert_array_equal(np.concatenate([chunk.inputs for chunk in rows.chunks(2, np.float64)]), FAR)
    assert (rows.needs_float64, counting(2).needs_float64, array_rows(np.zeros((0, 2))).needs_float64) == (
        True,
        False,
        False,
    )


def test_an_origin_is_subtracted_from_the_source_once() -> None:
    near = array_rows(FAR).measured_from(np.array([1.76e9, 0]))
    for rows in (near, near.measured_from(np.array([1.76e9, 0]))):
        (chunk,) = rows.chunks()
        assert chunk.inputs.tolist() == [[0.25, 1], [30, 2], [31, 3]]
        assert chunk.inputs.dtype == np.float32
    (chunk,) = near.measured_from(np.array([1.76e9 + 30, 0])).chunks()
    assert chunk.inputs[:, 0].tolist() == [-29.75, 0, 1]
    assert near.measured_from(None).origin is None
    plain = counting(2)
    assert plain.measured_from(None) is plain


def test_a_value_too_large_for_float32_is_told_from_a_missing_one() -> None:
    with pytest.raises(DataError, match=r"row 1, column 0: .*, found infinity or too large a number"):
        list(array_rows(np.array([[0], [1e39]])).chunks())
    with pytest.raises(DataError, match=r"row 1, column 0: .*, found a missing value or NaN"):
        list(array_rows(np.array([[0], [np.nan]])).chunks())
