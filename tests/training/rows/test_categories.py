from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.categories import (
    LONGEST,
    encode_column,
    find_columns,
    is_text,
    match_columns,
    scan_categories,
)
from lookalike.training.tables.columns import BOOLEANS, Column


def batches(*parts: dict[str, list[str | None]]) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pydict({k: pa.array(v, pa.string()) for k, v in part.items()}) for part in parts]


def test_counts_rows_and_collects_values_over_all_batches() -> None:
    some = batches({"a": ["y", None, "x"]}, {"a": ["x", "y"]})
    assert scan_categories(some, ["a"], 64) == (5, {"a": ("x", "y")})


@pytest.mark.parametrize(
    ("values", "most", "found"),
    [
        (["x", "x", "y", "y"], 2, True),
        (["x", "x", "y", "y"], 1, False),
        (["x", "y", "y"], 64, False),  # two distinct values in three rows
        (["x", "x", None, None], 64, True),
        (["x", None], 64, False),
        (["x", "x"], 0, False),
        ([None, None], 64, False),
        (["x" * LONGEST] * 2, 64, True),
        (["x" * (LONGEST + 1)] * 2, 64, False),
    ],
)
def test_few_repeated_values_are_categories(values: list[str | None], most: int, found: bool) -> None:
    assert ("a" in scan_categories(batches({"a": values}), ["a"], most)[1]) is found


@pytest.mark.parametrize("name", ["id", "label"])
def test_ids_and_labels_are_not_categories(name: str) -> None:
    assert scan_categories(batches({name: ["x"] * 9}), [name], 64) == (9, {})


def test_stops_reading_early_unless_rows_are_counted() -> None:
    some = batches({"a": ["x", "y"]}, {"a": ["z", "z"]})
    assert scan_categories(iter(some), ["a"], 1, count=False)[0] == 2
    assert scan_categories(iter(some), ["a"], 1)[0] == 4


def test_finds_columns_in_the_files_order() -> None:
    schema = pa.schema(
        [("kind", pa.string()), ("id", pa.int64()), ("x", pa.float32()), ("note", pa.string()), ("good", pa.bool_())]
    )
    found = find_columns(schema, {"kind": ("a", "b")})
    assert found == (Column("kind", "categorical", ("a", "b")), Column("x"), Column("good", "boolean", BOOLEANS))


@pytest.mark.parametrize(
    ("kind", "column", "valid"),
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
def test_refuses_another_kind_of_values_than_in_training(kind: pa.DataType, column: Column, valid: bool) -> None:
    schema = pa.schema([("y", pa.int8()), ("x", kind)])
    if valid:
        match_columns(Path("t"), schema, (column,))
    else:
        with pytest.raises(DataError, match="t, column x: expected"):
            match_columns(Path("t"), schema, (column,))


def test_encodes_values_as_numbers_and_gaps_as_nan() -> None:
    for values, column, expected in (
        ([1.5, None], Column("x"), [1.5, np.nan]),
        ([True, None, False], Column("x", "boolean", BOOLEANS), [1, np.nan, 0]),
        (["b", None, "c", "a"], Column("x", "categorical", ("a", "b")), [1, np.nan, np.nan, 0]),
        ([None, None], Column("x", "categorical", ("a", "b")), [np.nan, np.nan]),
    ):
        np.testing.assert_array_equal(encode_column(pa.array(values), column, "t", 0), expected)


def test_counts_rows_from_the_first_row() -> None:
    with pytest.raises(DataError, match=r"t, row 12, column x: expected true or false, or 1 or 0, found 0\.5"):
        encode_column(pa.array([0.0, 1.0, 0.5]), Column("x", "boolean", BOOLEANS), "t", 10)


@pytest.mark.parametrize("kind", [pa.binary(), pa.int8(), pa.dictionary(pa.int8(), pa.int64()), pa.date32()])
def test_is_text_rejects_other_types(kind: pa.DataType) -> None:
    assert not is_text(kind)
