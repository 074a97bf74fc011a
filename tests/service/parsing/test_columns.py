from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.service.errors import RequestError, TooLargeError
from lookalike.service.parsing.columns import TableInputs
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.tables.columns import BOOLEANS, Column
from lookalike.training.tables.field_parts import encode_parts

NAN = float("nan")
TABLE = TableInputs(
    (Column("size"), Column("colour", "categorical", ("blue", "red")), Column("sold", "boolean", BOOLEANS))
)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1.5, "red", True], [1.5, 1, 1]),
        ([3, "blue", False], [3, 0, 0]),
        ([None, None, None], [NAN, NAN, NAN]),
        ([2, "purple", 1], [2, NAN, 1]),
        ([2, "", 0.0], [2, NAN, 0]),
        ({"size": 1, "colour": "red", "sold": False}, [1, 1, 0]),
        ({"sold": True, "colour": "blue", "size": 2}, [2, 0, 1]),
        ({"sold": True}, [NAN, NAN, 1]),
        ({"size": 1, "colour": "red"}, [1, 1, NAN]),
        ({"sold": None, "size": None}, [NAN, NAN, NAN]),
    ],
)
def test_a_row_is_a_list_in_order_or_an_object_by_names(row: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(TABLE.decode([row], "inputs[{}]"), [expected])


def test_reads_lists_and_objects_in_one_call() -> None:
    decoded = TABLE.decode([[1, "red", True], {"sold": False}, [None, "blue", None]], "inputs[{}]")
    np.testing.assert_array_equal(decoded, [[1, 1, 1], [NAN, NAN, 0], [NAN, 0, NAN]])
    assert decoded.dtype == np.float64


@pytest.mark.parametrize(
    ("row", "field", "expected", "found"),
    [
        ([1, "red"], "", "a list of 3 values, or an object", "a list of 2"),
        ([1, "red", True, 4], "", "a list of 3 values", "a list of 4"),
        (3, "", "a list of 3 values", "3"),
        (None, "", "a list of 3 values", "null"),
        ("red", "", "a list of 3 values", '"red"'),
        (["big", "red", True], ".size", "a number, or null", '"big"'),
        ([True, "red", True], ".size", "a number, or null", "true"),
        ([[1], "red", True], ".size", "a number, or null", "a list of 1"),
        ([1, 1, True], ".colour", "text, or null", "1"),
        ([1, False, True], ".colour", "text, or null", "false"),
        ([1, {}, True], ".colour", "text, or null", "an object"),
        ([1, "red", "true"], ".sold", "true or false, or null", '"true"'),
        ([1, "red", 2], ".sold", "true or false, or null", "2"),
        ([1, "red", 0.5], ".sold", "true or false, or null", "0.5"),
        ({"size": 1, "color": "red", "sold": True}, "", "names of columns: size, colour, sold", '"color"'),
        ({}, "", "one or more names of columns: size, colour, sold", "an empty object"),
        ({"sold": "x" * 100}, ".sold", "true or false", '"' + "x" * 39 + "…"),
    ],
)
def test_names_row_and_column_of_a_wrong_value(row: Any, field: str, expected: str, found: str) -> None:
    right = [1, "red", True]
    with pytest.raises(RequestError) as refused:
        TABLE.decode([right, right, row], "inputs[{}]")
    assert refused.value.field == f"inputs[2]{field}"
    assert refused.value.expected.startswith(expected)
    assert (refused.value.found, refused.value.status) == (found, 422)


@pytest.mark.parametrize("codes", [[5, 0, 1], [NAN, NAN, NAN], [-1e9, 1, 0]])
def test_accepts_codes_of_the_values(codes: list[float]) -> None:
    TABLE.check_codes(np.array([codes], np.float32), "inputs[{}]")


@pytest.mark.parametrize(
    ("codes", "field"),
    [
        ([0, 2, 0], "colour"),
        ([0, -1, 0], "colour"),
        ([0, 0.5, 0], "colour"),
        ([0, 0, 2], "sold"),
        ([0, 0, 0.1], "sold"),
    ],
)
def test_refuses_other_codes(codes: list[float], field: str) -> None:
    with pytest.raises(RequestError, match=rf"inputs\[1\]\.{field}: expected a code from 0 to 1, or NaN"):
        TABLE.check_codes(np.array([[0, 0, 0], codes], np.float32), "inputs[{}]")


def test_truncates_long_names() -> None:
    long = TableInputs(tuple(Column(f"{i:03}" + "x" * 500) for i in range(500)))
    for row in ({}, {"y": 1}, ["a"] * 500):
        with pytest.raises(RequestError) as refused:
            long.decode([row], "inputs[{}]")
        assert len(str(refused.value)) < 500


def test_only_numeric_tables_are_plain() -> None:
    assert not TABLE.numeric
    assert TableInputs((Column("a"), Column("b"))).numeric


def test_an_encoder_of_pictures_has_no_columns(tiny_run: Any) -> None:
    assert TableInputs.of(load_encoder(tiny_run / "encoder")) is None


def of_field(name: str, *parts: str) -> tuple[Column, ...]:
    return tuple(Column(f"{name}.{part}", "numeric", (), name, part) for part in parts)


PARTS = TableInputs(
    (
        *of_field("when", "age", "hour_sin"),
        Column("zip", "categorical", ("10115", "2.5"), "zip", "code"),
        Column("code", "numeric", (), "code", "parsed"),
        *of_field("title", "ngram_0", "ngram_1"),
    )
)


def test_a_row_has_the_fields_and_not_the_parts() -> None:
    assert list(PARTS.fields) == ["when", "zip", "code", "title"]
    assert not PARTS.numeric
    rows = [["1970-01-02T06:00", 10115, "007", "red shoes"], {"when": "1970-01-03"}, {"zip": 2.5, "code": 7}]
    decoded = PARTS.decode(rows, "inputs[{}]")
    np.testing.assert_allclose(decoded[:, :4], [[1.25, 1, 0, 7], [2, 0, NAN, NAN], [NAN, NAN, 1, 7]], atol=1e-12)
    expected = encode_parts(pa.array(["red shoes"]), ("ngram_0", "ngram_1"))
    np.testing.assert_array_equal(decoded[:, 4:], [*expected, [NAN, NAN], [NAN, NAN]])


def test_limits_the_texts_that_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.service.parsing.columns.MAX_TEXT", 6)
    monkeypatch.setattr("lookalike.service.parsing.columns.MAX_TEXTS", 9)
    PARTS.decode([{"title": "123456"}, {"title": "123"}], "inputs[{}]")
    with pytest.raises(TooLargeError, match=r"inputs\[1\]\.title: expected at most 6 characters, found 7 characters"):
        PARTS.decode([{"title": None}, {"title": "1234567"}], "inputs[{}]")
    with pytest.raises(TooLargeError, match="title: expected at most 9 characters in the texts of a call, found 10"):
        PARTS.decode([{"title": "12345"}] * 2, "inputs[{}]")


@pytest.mark.parametrize(
    ("row", "field", "expected"),
    [
        ({"when": "soon"}, ".when", "a date or a time, such as"),
        ({"when": 3}, ".when", "a date or a time, such as"),
        ({"zip": "10115"}, ".zip", "a number, or null"),
        ({"code": "x"}, ".code", "a number, also as text"),
        ({"title": 3}, ".title", "text, or null"),
        ({"when.age": 3}, "", "names of columns: when, zip, code, title"),
        ([1, 2, 3, 4, 5, 6], "", "a list of 4 values"),
    ],
)
def test_names_the_field_of_a_wrong_part(row: Any, field: str, expected: str) -> None:
    with pytest.raises(RequestError) as refused:
        PARTS.decode([{"when": "1970-01-01"}, row], "inputs[{}]")
    assert refused.value.field == f"inputs[1]{field}"
    assert refused.value.expected.startswith(expected)


def test_names_the_fields_that_a_part_of_a_row_uses() -> None:
    rows = np.array([[1, 0, 1], [NAN, 1, NAN], [NAN, NAN, NAN]], np.float32)
    assert TABLE.used(rows) == [None, ["colour"], []]
    assert TABLE.used(rows[:1]) is None
    assert PARTS.used(np.array([[1, NAN, 0, NAN, 1, 1]], np.float32)) == [["when", "zip", "title"]]


NANO = 1_700_000_000_000_000_000
TIMES = TableInputs((Column("at", base=NANO), Column("x")))


def test_a_base_is_subtracted_from_integers_of_json_and_of_an_array() -> None:
    rows = TIMES.decode([[NANO + 1, 2], {"at": NANO - 3}, {"at": float(NANO), "x": 1.5}], "inputs[{}]")
    np.testing.assert_array_equal(rows, [[1, 2], [-3, NAN], [0, 1.5]])
    assert not TIMES.numeric  # the reader of plain numbers has only float64
    np.testing.assert_array_equal(TIMES.minus_bases(np.array([[NANO + 1, 2]])), [[1, 2]])
    np.testing.assert_array_equal(TIMES.minus_bases(np.array([[NANO, NAN]])), [[0, NAN]])
    plain = np.zeros((1, 3), np.float32)
    assert TABLE.minus_bases(plain) is plain


def test_refuses_a_query_of_which_nothing_is_known() -> None:
    rows = np.array([[1, 0, 1], [NAN, 1, NAN]], np.float32)
    assert TABLE.used_by_queries(rows, "inputs[{}]") == [None, ["colour"]]
    assert TABLE.used_by_queries(rows[:1], "inputs[{}]") is None
    with pytest.raises(RequestError) as refused:
        TABLE.used_by_queries(np.array([[1, 0, 1], [NAN, NAN, NAN]], np.float32), "inputs[{}]")
    assert refused.value.field == "inputs[1]"
    assert refused.value.found == "only missing values and unknown categories"
