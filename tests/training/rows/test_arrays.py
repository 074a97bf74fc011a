import numpy as np
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.arrays import array_rows
from lookalike.training.tables.columns import Column

COLUMNS = tuple(map(Column, "abcd"))
INPUTS = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_reads_an_array_in_chunks_with_positions_as_ids() -> None:
    rows = array_rows(INPUTS, "X", columns=COLUMNS)
    assert (rows.name, rows.shape, rows.count, rows.pixels, rows.columns) == ("X", (4,), 3, False, COLUMNS)
    first, second = rows.chunks(2)
    assert (first.ids, second.ids) == (["0", "1"], ["2"])
    assert np.array_equal(np.concatenate([first.inputs, second.inputs]), INPUTS)
    assert first.payloads == [{}, {}]


def test_a_shape_of_two_dimensions_is_a_picture() -> None:
    rows = array_rows(INPUTS, "X", shape=(2, 2))
    assert (rows.shape, rows.width, rows.pixels) == ((2, 2), 4, True)


def test_keeps_only_unique_column_names_of_a_table() -> None:
    assert array_rows(INPUTS, "X", shape=(2, 2), columns=COLUMNS).columns == ()
    assert array_rows(INPUTS, "X", columns=COLUMNS[:3] + COLUMNS[:1]).columns == ()


def test_refuses_a_shape_of_another_width() -> None:
    with pytest.raises(DataError, match=r"X: expected rows of shape \(2, 3\), found rows of 4 columns"):
        array_rows(INPUTS, "X", shape=(2, 3))


def test_names_row_and_column_of_a_nonfinite_value() -> None:
    bad = INPUTS.copy()
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match="X, row 2, column b"):
        list(array_rows(bad, "X", columns=COLUMNS).chunks())
