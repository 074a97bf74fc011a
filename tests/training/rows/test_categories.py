from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.categories import (
    LONGEST,
    cell_kinds,
    encode_field,
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


def test_stops_reading_early_unless_rows_are_counted() -> None:
    some = batches({"a": ["x", "y"]}, {"a": ["z", "z"]})
    assert scan_categories(iter(some), ["a"], 1, count=False)[0] == 2
    assert scan_categories(iter(some), ["a"], 1)[0] == 4


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
        (pa.int64(), Column("x", "categorical", ("1",), "x", "code"), True),
        (pa.string(), Column("x", "categorical", ("1",), "x", "code"), False),
        (pa.date32(), Column("x.age", "numeric", (), "x", "age"), True),
        (pa.string(), Column("x.age", "numeric", (), "x", "age"), True),
        (pa.float64(), Column("x.age", "numeric", (), "x", "age"), False),
        (pa.string(), Column("x.ngram_0", "numeric", (), "x", "ngram_0"), True),
        (pa.int8(), Column("x.ngram_0", "numeric", (), "x", "ngram_0"), False),
        (pa.string(), Column("x", "numeric", (), "x", "parsed"), True),
        (pa.int8(), Column("x", "numeric", (), "x", "parsed"), True),
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
        np.testing.assert_array_equal(encode_field(pa.array(values), [column], "t", 0)[:, 0], expected)


def test_the_names_of_numbers_are_categories() -> None:
    column = Column("zip", "categorical", ("10115", "2.5"), "zip", "code")
    for values in ([10115, None, 7], [10115.0, None, 2.5]):
        codes = encode_field(pa.array(values), [column], "t", 0)[:, 0]
        np.testing.assert_array_equal(codes, [0, np.nan, np.nan if values[2] == 7 else 1])


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("age", "soon", "row 12, column x: expected a date or a time"),
        ("parsed", "7 kg", "row 12, column x: expected a number"),
    ],
)
def test_names_the_row_of_a_text_that_does_not_fit(part: str, value: str, message: str) -> None:
    values = pa.array([None, None, value])
    with pytest.raises(DataError, match=f"t, {message}.*, found '{value}'"):
        encode_field(values, [Column("x.part", "numeric", (), "x", part)], "t", 10)


def test_knows_the_cells_of_each_field_of_a_text_file() -> None:
    columns = (
        Column("n"),
        Column("b", "boolean", BOOLEANS),
        Column("c", "categorical", ("x",)),
        Column("z", "categorical", ("1",), "z", "code"),
        Column("t.age", "numeric", (), "t", "age"),
        Column("t.hour_sin", "numeric", (), "t", "hour_sin"),
        Column("p", "numeric", (), "p", "parsed"),
    )
    text, number = pa.string(), pa.float64()
    assert cell_kinds(columns) == {"n": number, "b": pa.bool_(), "c": text, "z": number, "t": text, "p": text}


def test_counts_rows_from_the_first_row() -> None:
    with pytest.raises(DataError, match=r"t, row 12, column x: expected true or false, or 1 or 0, found 0\.5"):
        encode_field(pa.array([0.0, 1.0, 0.5]), [Column("x", "boolean", BOOLEANS)], "t", 10)


@pytest.mark.parametrize("kind", [pa.binary(), pa.int8(), pa.dictionary(pa.int8(), pa.int64()), pa.date32()])
def test_is_text_rejects_other_types(kind: pa.DataType) -> None:
    assert not is_text(kind)
