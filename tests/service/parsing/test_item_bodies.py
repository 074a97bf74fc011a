import contextlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.service.errors import MalformedError, RequestError, TooLargeError
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.item_bodies import MAX_PAYLOAD, decode_items
from lookalike.service.parsing.rows import RequestLimits
from lookalike.training.errors import LookalikeError
from lookalike.training.tables.columns import Column

BOUNDS = RequestLimits((2, 2), 3, max_rows=5, max_limit=50, max_hits=100)
MIXED = replace(
    BOUNDS,
    input_shape=(2,),
    table=TableInputs((Column("size"), Column("colour", "categorical", ("blue", "red")))),
)
NUMBERS = replace(MIXED, table=TableInputs((Column("a"), Column("b"))))
NAN = float("nan")
ROW = [1, 2.5, -3e2, 0]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def body(*items: Any) -> bytes:
    return json.dumps({"items": items}).encode()


def item(**given: Any) -> dict[str, Any]:
    return {"id": "a", "input": ROW} | given


def refused(given: bytes, limits: RequestLimits = BOUNDS) -> RequestError:
    with pytest.raises(RequestError) as error:
        decode_items(given, limits)
    return error.value


@pytest.mark.parametrize("row", [ROW, [[1, 2.5], [-3e2, 0]]], ids=["flat", "nested"])
@pytest.mark.parametrize("more", [{}, {"payload": {"tags": ["[", {}], "ü": None}}], ids=["plain", "with lists"])
def test_rows_are_flat_or_nested_in_the_input_shape(row: Any, more: dict[str, Any]) -> None:
    asked = decode_items(body({"id": "a", "input": row} | more, item(id="b/ü", input=[5, 6, 7, 8])), BOUNDS)
    assert asked.ids == ["a", "b/ü"]
    assert asked.rows.tolist() == [[1, 2.5, -300, 0], [5, 6, 7, 8]]
    assert (asked.rows.dtype.str, asked.rows.flags.c_contiguous) == ("<f4", True)
    assert [json.loads(text) for text in asked.payloads] == [more.get("payload", {}), {}]


WRONG_INPUTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "null"),
    "a number": (3, "3"),
    "text": ("1234", '"1234"'),
    "an object": ({"a": 1}, "an object"),
    "too short": ([1, 2, 3], "a list of 3"),
    "too long": ([1, 2, 3, 4, 5], "a list of 5"),
    "empty": ([], "a list of 0"),
    "of another shape": ([[1, 2, 3, 4]], "lists of another shape"),
    "uneven": ([[1, 2], [3]], "lists of another shape"),
    "too deep": ([[[1], [2]], [[3], [4]]], "a list of 1 at value 0"),
    "empty lists": ([[], [], [], []], "lists of another shape"),
    "lists beside numbers": ([[1, 2], 3, 4], "lists of another shape"),
    "numbers beside lists": ([1, 2, [3], 4], "a list of 1 at value 2"),
    "null": ([1, 2, None, 4], "null at value 2"),
    "true": ([1, True, 3, 4], "true at value 1"),
    "a number as text": ([[1, 2], [3, "NaN"]], '"NaN" at value 3'),
    "too large a number": ([1, 2, 3, -1e39], "NaN, infinity or too large a number at value 3"),
}


@pytest.mark.parametrize(("row", "found"), WRONG_INPUTS.values(), ids=WRONG_INPUTS.keys())
@pytest.mark.parametrize("payload", [{}, {"tags": [1]}], ids=["plain", "with lists"])
def test_names_the_number_of_a_wrong_row(row: Any, found: str, payload: dict[str, Any]) -> None:
    error = refused(body(item(id="first", payload=payload), item(input=row, payload=payload)))
    assert (error.field, error.found, error.status) == ("items[1].input", found, 422)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_refuses_nan_and_infinity_as_malformed(value: str) -> None:
    with pytest.raises(MalformedError):
        decode_items(b'{"items": [{"id": "a", "input": [1, 2, 3, %s]}]}' % value.encode(), BOUNDS)


WRONG_FIELDS: dict[str, tuple[bytes, str, str]] = {
    "no items": (b"{}", "items", "nothing"),
    "items of null": (b'{"items": null}', "items", "null"),
    "an object of items": (b'{"items": {}}', "items", "an object"),
    "no item": (b'{"items": []}', "items", "a list of 0"),
    "an unknown field": (b'{"items": [], "more": 1}', "more", "an unknown field"),
    "an item that is none": (body(item(), [1]), "items[1]", "a list of 1"),
    "an unknown field of an item": (body(item(colour="red")), "items[0].colour", "an unknown field"),
    "a long unknown field": (body(item(**{"x" * 999: 1})), f"items[0].{'x' * 64}", "an unknown field"),
    "no id": (body({"input": ROW}), "items[0].id", "nothing"),
    "no input": (body({"id": "a"}), "items[0].input", "nothing"),
    "an id of null": (body(item(id=None)), "items[0].id", "null"),
    "a number as id": (body(item(id=3)), "items[0].id", "3"),
    "an empty id": (body(item(id="")), "items[0].id", "0 characters"),
    "a line break in an id": (body(item(id="a\nb")), "items[0].id", "U+000A at position 1"),
    "an id of 257": (body(item(id="x" * 257)), "items[0].id", "257 characters"),
    "an id twice": (body(item(), item(id="b"), item()), "items[2].id", "the id of items[0]"),
    "a payload of null": (body(item(payload=None)), "items[0].payload", "null"),
    "a payload that is a list": (body(item(payload=[1])), "items[0].payload", "a list of 1"),
}


@pytest.mark.parametrize(("given", "field", "found"), WRONG_FIELDS.values(), ids=WRONG_FIELDS.keys())
def test_names_the_place_of_a_wrong_field(given: bytes, field: str, found: str) -> None:
    error = refused(given)
    assert (error.field, error.found, error.status) == (field, found, 422)


def test_an_id_is_any_text_of_up_to_256_characters() -> None:
    ids = ["x" * 256, " ", "a/b", "../..", "?#%", "日本", "\u202f\u3000\u200d\u00ad\ufeff\u2028\ue000"]
    assert decode_items(body(*(item(id=name) for name in ids[:5])), BOUNDS).ids == ids[:5]
    assert decode_items(body(*(item(id=name) for name in ids[5:])), BOUNDS).ids == ids[5:]


def test_a_payload_is_of_bounded_size_and_depth() -> None:
    fits = {"a": "x" * (MAX_PAYLOAD - len('{"a":""}'))}
    assert len(decode_items(body(item(payload=fits)), BOUNDS).payloads[0]) == MAX_PAYLOAD
    for payload in ({"a": fits["a"] + "x"}, {"a": "ü" * (MAX_PAYLOAD // 2)}):
        error = refused(body(item(id="b"), item(payload=payload)))
        assert (error.field, error.status) == ("items[1].payload", 413)
    for deep in ('{"a":' * 300 + "1" + "}" * 300, '{"a":' + "[" * 300 + "]" * 300 + "}"):
        error = refused(b'{"items": [{"id": "a", "input": [1, 2, 3, 4], "payload": %s}]}' % deep.encode())
        assert (error.field, error.status) == ("items[0].payload", 422)


INTEGERS = ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "18446744073709551617", "1" * 300]


@pytest.mark.parametrize("value", INTEGERS)
@pytest.mark.parametrize("beside", ["", ', "tags": [1]'], ids=["plain", "with lists"])
def test_an_integer_out_of_bounds_is_refused_by_its_place(value: str, beside: str) -> None:
    given = '{"items": [{"id": "a", "input": [1, 2, 3, 4]}, {"id": "b", "input": [1, 2, 3, 4], "payload": %s}]}'
    error = refused((given % f'{{"x": {{"n": {value}}}{beside}}}').encode())
    assert (error.field, error.status) == ("items[1].payload.x.n", 422)
    assert error.expected == "integers from -2^63 to 2^63 - 1"
    assert error.found in (value, f"a number of {int(value).bit_length()} bits")


def test_keeps_int64_integers_and_other_values_exact() -> None:
    values = '"a":9223372036854775807,"b":-9223372036854775808,"c":18446744073709551616.0,"d":1e300'
    texts = '"18446744073709551616":"-18446744073709551616"'
    for beside in ("", ',"tags":[1e20]'):
        given = (
            '{"items": [{"id": "9223372036854775808 ,9223372036854775808", "input": [1, 2, 3, 1%s], "payload": {%s}}]}'
        )
        asked = decode_items((given % ("0" * 19, f"{values},{texts}{beside}")).encode(), BOUNDS)
        kept = json.loads(asked.payloads[0])
        assert (kept["a"], kept["b"], kept["c"], kept["d"]) == (2**63 - 1, -(2**63), 2.0**64, 1e300)
        assert kept["18446744073709551616"] == "-18446744073709551616"
        assert asked.rows.tolist() == [[1, 2, 3, np.float32(1e19)]]


def test_refuses_more_items_than_the_limit() -> None:
    for payload in ({}, {"tags": [1]}):
        items = [item(id=str(number), payload=payload) for number in range(6)]
        assert len(decode_items(body(*items[:5]), BOUNDS).ids) == 5
        assert (refused(body(*items)).field, refused(body(*items)).status) == ("items", 413)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"[[]],"])
def test_refuses_a_body_of_brackets_before_parsing(part: bytes) -> None:
    with pytest.raises(TooLargeError):
        decode_items(b'{"items": [' + part * 100_000 + b"1]}", BOUNDS)


def test_the_last_of_two_equal_names_counts() -> None:
    twice = b'{"items": [{"id": "a", "id": "b", "input": [9], "input": [1, 2, 3, 4]}]}'
    asked = decode_items(twice, BOUNDS)
    assert (asked.ids, asked.rows.tolist()) == (["b"], [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("limits", "row", "expected"),
    [
        (MIXED, [1, "red"], [1, 1]),
        (MIXED, [None, "green"], [NAN, NAN]),
        (MIXED, {"colour": "blue"}, [NAN, 0]),
        (NUMBERS, [1, 2.5], [1, 2.5]),
        (NUMBERS, [1, None], [1, NAN]),
        (NUMBERS, {"a": 1}, [1, NAN]),
    ],
)
def test_rows_of_a_table_are_read_by_its_columns(limits: RequestLimits, row: Any, expected: list[float]) -> None:
    for payload in ({}, {"tags": ["x"]}):
        np.testing.assert_array_equal(decode_items(body(item(input=row, payload=payload)), limits).rows, [expected])


@pytest.mark.parametrize(
    ("limits", "row", "field"),
    [
        (MIXED, [1, 0], "items[1].input.colour"),
        (MIXED, ["1", "red"], "items[1].input.size"),
        (MIXED, [1, "red", 2], "items[1].input"),
        (MIXED, {}, "items[1].input"),
        (MIXED, [1e39, "red"], "items[1].input"),
        (NUMBERS, [1, True], "items[1].input.b"),
        (NUMBERS, {"c": 1}, "items[1].input"),
        (NUMBERS, [1, -1e39], "items[1].input"),
    ],
)
def test_names_row_and_column_of_a_wrong_table_row(limits: RequestLimits, row: Any, field: str) -> None:
    right = [1, "red"] if limits is MIXED else [1, 2]
    error = refused(body(item(id="b", input=right), item(input=row)), limits)
    assert (error.field, error.status) == (field, 422)


@given(
    st.lists(VALUES | st.fixed_dictionaries({"id": VALUES, "input": VALUES}, optional={"payload": VALUES}), max_size=3)
)
def test_any_items_are_decoded_or_refused(items: list[Any]) -> None:
    for limits in (BOUNDS, MIXED, NUMBERS):
        with contextlib.suppress(LookalikeError):
            asked = decode_items(body(*items), limits)
            assert asked.rows.shape == (len(items), limits.width("inputs"))
            assert not np.isinf(asked.rows).any()


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(given: bytes) -> None:
    with pytest.raises(LookalikeError):
        decode_items(given, BOUNDS)


def test_an_input_stays_float64_if_the_encoder_has_an_origin() -> None:
    far = replace(BOUNDS, input_shape=(2,), origin=np.array([1.76e9, 0]))
    kept = decode_items(body(item(input=[1.76e9 + 0.25, 3])), far).rows
    assert kept.tolist() == [[1.76e9 + 0.25, 3]]
    assert kept.dtype == np.float64
    assert decode_items(body(item()), BOUNDS).rows.dtype == np.float32
    assert "fit float32" in str(refused(body(item(input=[1e39, 3])), far))
