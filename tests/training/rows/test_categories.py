from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.categories import LONGEST, census, code, find_columns, is_text, match_columns
from lookalike.training.tables.columns import BOOLEANS, Column


def batches(*parts: dict[str, list[str | None]]) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pydict({k: pa.array(v, pa.string()) for k, v in part.items()}) for part in parts]


def test_rows_are_counted_and_values_gathered_over_all_batches() -> None:
    some = batches({"a": ["y", None, "x"]}, {"a": ["x", "y"]})
    assert census(some, ["a"], 64) == (5, {"a": ("x", "y")})


@pytest.mark.parametrize(
    ("values", "most", "found"),
    [
        (["x", "x", "y", "y"], 2, True),
        (["x", "x", "y", "y"], 1, False),
        (["x", "y", "y"], 64, False),  # two of three differ
        (["x", "x", None, None], 64, True),
        (["x", None], 64, False),
        (["x", "x"], 0, False),
        ([None, None], 64, False),
        (["x" * LONGEST] * 2, 64, True),
        (["x" * (LONGEST + 1)] * 2, 64, False),
    ],
)
def test_few_values_that_come_again_are_categories(values: list[str | None], most: int, found: bool) -> None:
    assert ("a" in census(batches({"a": values}), ["a"], most)[1]) is found


@pytest.mark.parametrize("name", ["id", "label"])
def test_ids_and_labels_are_none(name: str) -> None:
    assert census(batches({name: ["x"] * 9}), [name], 64) == (9, {})


def test_reading_ends_where_nothing_can_come_of_it_unless_rows_are_counted() -> None:
    some = batches({"a": ["x", "y"]}, {"a": ["z", "z"]})
    assert census(iter(some), ["a"], 1, count=False)[0] == 2
    assert census(iter(some), ["a"], 1)[0] == 4


def test_columns_are_found_in_the_files_order() -> None:
    schema = pa.schema(
        [("kind", pa.string()), ("id", pa.int64()), ("x", pa.float32()), ("note", pa.string()), ("good", pa.bool_())]
    )
    found = find_columns(schema, {"kind": ("a", "b")})
    assert found == (Column("kind", "categorical", ("a", "b")), Column("x"), Column("good", "boolean", BOOLEANS))


@pytest.mark.parametrize(
    ("kind", "column", "right"),
    [
        (pa.int8(), Column("x"), True),
        (pa.bool_(), Column("x"), True),
        (pa.null(), Column("x"), True),
        (pa.date32(), Column("x"), False),
        (pa.int8(), Column("x", "boolean", BOOLEANS), True),
        (pa.string(), Column("x", "boolean", BOOLEANS), False),
        (pa.string(), Column("x", "categorical", ("a",)), True),
        (pa.null(), Column("x", "categorical", ("a",)), True),
        (pa.bool_(), Column("x", "categorical", ("a",)), False),
    ],
)
def test_a_column_must_hold_what_it_held_in_training(kind: pa.DataType, column: Column, right: bool) -> None:
    schema = pa.schema([("y", pa.int8()), ("x", kind)])
    if right:
        match_columns(Path("t"), schema, (column,))
    else:
        with pytest.raises(DataError, match="t, column x: expected"):
            match_columns(Path("t"), schema, (column,))


def test_values_become_numbers_and_gaps_nan() -> None:
    for values, column, expected in (
        ([1.5, None], Column("x"), [1.5, np.nan]),
        ([True, None, False], Column("x", "boolean", BOOLEANS), [1, np.nan, 0]),
        (["b", None, "c", "a"], Column("x", "categorical", ("a", "b")), [1, np.nan, np.nan, 0]),
        ([None, None], Column("x", "categorical", ("a", "b")), [np.nan, np.nan]),
    ):
        np.testing.assert_array_equal(code(pa.array(values), column, "t", 0), expected)


def test_a_row_is_counted_from_the_first() -> None:
    with pytest.raises(DataError, match=r"t, row 12, column x: expected true or false, or 1 or 0, found 0\.5"):
        code(pa.array([0.0, 1.0, 0.5]), Column("x", "boolean", BOOLEANS), "t", 10)


@pytest.mark.parametrize("kind", [pa.binary(), pa.int8(), pa.dictionary(pa.int8(), pa.int64()), pa.date32()])
def test_what_is_no_text(kind: pa.DataType) -> None:
    assert not is_text(kind)
