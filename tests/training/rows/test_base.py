from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, Rows, read_sample, spread
from lookalike.training.rows.base import CHUNK_BYTES
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import InputSpec
from tests.factories import array_rows


def counting(count: int, labels: list[Any] | None = None) -> Rows:
    """Rows (0, 0), (1, 1), (2, 2), ..."""
    return array_rows(np.repeat(np.arange(count, dtype=np.float32)[:, None], 2, axis=1), labels)


def misreporting(count: int, given: int) -> Rows:
    """A source that claims `count` rows and yields `given` rows."""

    def read(size: int) -> Iterator[Chunk]:
        yield Chunk([str(i) for i in range(given)], np.zeros((given, 2), np.float32), [{}] * given)

    return Rows("misreporting", (2,), count, False, read)


@given(count=st.integers(1, 40), size=st.integers(1, 50))
def test_chunks_contain_every_row_once_in_order(count: int, size: int) -> None:
    chunks = list(counting(count).chunks(size))
    assert [row for chunk in chunks for row in chunk.inputs[:, 0]] == list(range(count))
    assert [name for chunk in chunks for name in chunk.ids] == [str(i) for i in range(count)]
    assert max(len(chunk.inputs) for chunk in chunks) <= size


def test_rows_can_be_read_again() -> None:
    rows = counting(5)
    assert len(list(rows.chunks(2))) == len(list(rows.chunks(2))) == 3


@pytest.mark.parametrize(("width", "rows_a_chunk"), [(8, CHUNK_BYTES // 32), (CHUNK_BYTES, 1)])
def test_a_chunk_is_limited_in_bytes_but_has_at_least_one_row(width: int, rows_a_chunk: int) -> None:
    sizes: list[int] = []

    def read(size: int) -> Iterator[Chunk]:
        sizes.append(size)
        return iter(())

    with pytest.raises(DataError):
        list(Rows("empty", (width,), 1, False, read).chunks())
    assert sizes == [rows_a_chunk]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_names_row_and_column_of_a_nonfinite_value(value: float, size: int) -> None:
    inputs = np.zeros((10, 2), np.float32)
    inputs[[7, 9], [1, 0]] = value
    with pytest.raises(DataError, match="memory, row 7, column 1: expected a finite number"):
        list(array_rows(inputs).chunks(size))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_refuses_a_source_without_values(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="at least one row and one column"):
        list(array_rows(np.zeros(shape, np.float32)).chunks())


@pytest.mark.parametrize("given_rows", [2, 4])
def test_refuses_a_source_with_another_row_count_than_claimed(given_rows: int) -> None:
    with pytest.raises(DataError, match=f"misreporting: expected 3 rows, found {given_rows}"):
        list(misreporting(3, given_rows).chunks())


def test_the_width_is_the_product_of_the_shape() -> None:
    assert Rows("pictures", (4, 5, 3), 1, True, lambda size: iter(())).width == 60


@given(count=st.integers(1, 40), most=st.integers(1, 50), seed=st.integers(0, 9))
def test_a_sample_has_at_most_the_allowed_rows_in_order_with_labels(count: int, most: int, seed: int) -> None:
    inputs, labels = read_sample(counting(count, list(range(count))), most, seed)
    picked = inputs[:, 0].tolist()
    assert len(picked) == min(count, most)
    assert picked == sorted(set(picked)) == labels
    assert picked == read_sample(counting(count), most, seed)[0][:, 0].tolist()


def test_a_sample_is_uniform() -> None:
    drawn = np.concatenate([read_sample(counting(10), 3, seed)[0][:, 0] for seed in range(1_000)])
    shares = np.bincount(drawn.astype(int), minlength=10) / 1_000
    np.testing.assert_allclose(shares, 0.3, atol=0.06)  # about four standard deviations


def test_labels_are_none_without_labels() -> None:
    assert read_sample(counting(3), 9, 0)[1] == [None, None, None]


def test_finds_a_bad_row_outside_of_the_sample() -> None:
    inputs = np.zeros((100, 1), np.float32)
    inputs[99] = np.nan
    with pytest.raises(DataError, match="row 99"):
        read_sample(array_rows(inputs), 1, seed=0)


def test_reading_reports_progress() -> None:
    reported: list[int] = []
    read_sample(counting(7), 3, 0, reported.append)
    assert sum(reported) == 7


def with_gaps(*, gaps: bool) -> Rows:
    """Three rows of one column x: 1, a missing value, 3."""

    def read(size: int) -> Iterator[Chunk]:
        yield Chunk(["0", "1", "2"], np.array([[1], [np.nan], [3]], np.float32), [{}] * 3)

    return Rows("with_gaps", (1,), 3, False, read, columns=(Column("x"),), gaps=gaps)


def test_accepts_missing_values_only_with_gaps() -> None:
    (chunk,) = with_gaps(gaps=True).chunks()
    np.testing.assert_array_equal(chunk.inputs, [[1], [np.nan], [3]])
    with pytest.raises(DataError, match="with_gaps, row 1, column x: expected a finite number"):
        list(with_gaps(gaps=False).chunks())


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_refuses_infinity_even_with_gaps(value: float) -> None:
    def read(size: int) -> Iterator[Chunk]:
        yield Chunk(["0"], np.array([[np.nan, value]], np.float32), [{}])

    rows = Rows("far", (2,), 1, False, read, columns=(Column("x"), Column("y")), gaps=True)
    with pytest.raises(DataError, match=r"far, row 0, column y: expected a finite number .*, found infinity"):
        list(rows.chunks())


def test_reopens_only_a_table_and_only_if_something_changes() -> None:
    calls: list[tuple[DataConfig, InputSpec | None]] = []
    plain = counting(2)

    def reopen(*arguments: Any) -> Rows:
        calls.append(arguments)
        return plain

    other, fewer = InputSpec((Column("y"),)), DataConfig(categories=3)
    table = replace(plain, columns=(Column("x"),), settings=DataConfig(), reopen=reopen)
    assert plain.suited(other) is plain
    assert plain.with_settings(fewer) is plain
    assert table.suited(InputSpec((Column("x"),))) is table
    assert table.with_settings(DataConfig(validation=0.5)) is table
    assert replace(table, settings=None).with_settings(fewer).settings is None
    assert calls == []
    assert table.suited(other) is plain
    assert table.with_settings(fewer) is plain
    assert calls == [(other.settings, other), (fewer, None)]


FAR = np.array([[1.76e9 + 0.25, 1.0], [1.76e9 + 30, 2.0], [1.76e9 + 31, 3.0]])


def test_yields_float32_or_the_precision_of_the_source() -> None:
    rows = array_rows(FAR)
    assert [chunk.inputs.dtype for chunk in rows.chunks(2)] == [np.float32, np.float32]
    np.testing.assert_array_equal(np.concatenate([chunk.inputs for chunk in rows.chunks(2, np.float64)]), FAR)
    assert (rows.needs_float64, counting(2).needs_float64, array_rows(np.zeros((0, 2))).needs_float64) == (
        True,
        False,
        False,
    )


def test_subtracts_an_origin_once() -> None:
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


def test_distinguishes_too_large_values_from_missing_values() -> None:
    with pytest.raises(DataError, match=r"row 1, column 0: .*, found infinity or too large a number"):
        list(array_rows(np.array([[0], [1e39]])).chunks())
    with pytest.raises(DataError, match=r"row 1, column 0: .*, found a missing value or NaN"):
        list(array_rows(np.array([[0], [np.nan]])).chunks())


def test_rows_with_previews_keep_their_origin() -> None:
    plain = counting(3)

    def pictured(size: int) -> Iterator[Chunk]:
        return (replace(chunk, previews=[b"picture"] * len(chunk.ids)) for chunk in plain.read(size))

    assert plain.with_previews() is plain
    rows = replace(plain, read_with_previews=pictured).measured_from(np.array([1.0, 2.0]))
    (chunk,) = rows.with_previews().chunks()
    assert chunk.previews == [b"picture"] * 3
    np.testing.assert_array_equal(chunk.inputs, next(rows.chunks()).inputs)
    np.testing.assert_array_equal(chunk.inputs, [[-1, -2], [0, -1], [1, 0]])


def test_of_windows_the_first_are_chosen_because_neighbors_overlap() -> None:
    assert spread(10, 4, series=True).tolist() == [0, 1, 2, 3]
    assert spread(3, 4, series=True).tolist() == [0, 1, 2]
    assert spread(10, 4, series=False).tolist() == [0, 3, 6, 9]
