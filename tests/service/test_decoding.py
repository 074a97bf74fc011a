import contextlib
import json
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from index.errors import QueryError
from index.filters import read_filter
from service.columns import TableInputs
from service.decoding import (
    Bounds,
    check_hits,
    decode_embed,
    decode_npy,
    decode_search,
    pick_filter,
    pick_flag,
    pick_limit,
)
from service.errors import MalformedError, RequestError, TooLargeError
from tests.service.helpers import to_npy
from training.columns import Column
from training.errors import LookalikeError

BOUNDS = Bounds((2, 2), 3, max_rows=5, max_limit=50, max_hits=100)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
FIELD = st.sampled_from(["inputs", "embeddings", "ids", "limit", "with_payload", "filter", "x"])
RED: dict[str, Any] = {"field": "colour", "equal": "red"}


def rows_in(text: str) -> list[list[float]]:
    decoded: list[list[float]] = decode_embed(text.encode(), BOUNDS).rows.tolist()
    return decoded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"inputs": [[1, 2, 3, 4]]}', [[1, 2, 3, 4]]),
        ('{"inputs": [[[1, 2], [3, 4]]]}', [[1, 2, 3, 4]]),
        ('{"inputs": [[1, 2.5, -3e2, 0], [5, 6, 7, 8]]}', [[1, 2.5, -300, 0], [5, 6, 7, 8]]),
        ('{"inp\\u0075ts": [[1, 2, 3, 4]]}', [[1, 2, 3, 4]]),
        ('{"inputs": "a", "inputs": [[1, 2, 3, 4]]}', [[1, 2, 3, 4]]),
        ('{"inputs": [[5, 6, 7, 8]], "inputs": [[1, 2, 3, 4]]}', [[1, 2, 3, 4]]),
        ('{"inputs": [[1, 2, 3, 4]], "encoding_format": "float"}', [[1, 2, 3, 4]]),
        ('{"inputs": [[18446744073709551615, -1, 0, 1e-50]]}', [[2.0**64, -1, 0, 0]]),
    ],
)
def test_rows_are_read_flat_or_nested(text: str, expected: list[list[float]]) -> None:
    assert rows_in(text) == expected


BAD_ROWS = {
    "nothing": "[]",
    "an empty row": "[[]]",
    "no list": "3",
    "a string": '"1234"',
    "an object": '{"a": 1}',
    "null": "null",
    "one flat row": "[1, 2, 3, 4]",
    "too narrow": "[[1, 2, 3]]",
    "too deep": "[[[[1], [2]], [[3], [4]]]]",
    "ragged": "[[1, 2, 3, 4], [1, 2, 3]]",
    "ragged inside": "[[[1, 2], [3]]]",
    "a number beside a row": "[1, [1, 2, 3, 4]]",
    "a string beside numbers": '[["1", 2, 3, 4]]',
    "strings only": '[["1", "2", "3", "4"]]',
    "NaN as a string": '[["NaN", 2, 3, 4]]',
    "null beside numbers": "[[null, 2, 3, 4]]",
    "an object beside numbers": "[[{}, 2, 3, 4]]",
    "true beside integers": "[[true, 2, 3, 4]]",
    "false beside fractions": "[[1.5, 2, false, 4]]",
    "booleans only": "[[true, true, false, true]]",
    "more than float32 holds": "[[1e39, 2, 3, 4]]",
    "less than float32 holds": "[[-1e39, 2, 3, 4]]",
    "300 deep": "[" * 300 + "]" * 300,
    "an object 300 deep": "[" + '{"a":' * 300 + "1" + "}" * 300 + "]",
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
@pytest.mark.parametrize("decode", [decode_embed, decode_search])
def test_rows_of_anything_else_are_refused_by_field(bad: str, decode: Any) -> None:
    with pytest.raises(RequestError) as refused:
        decode(f'{{"inputs": {bad}}}'.encode(), BOUNDS)
    assert refused.value.status == 422
    assert refused.value.field.startswith("inputs")


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ('[[1, 2, 3, 4], [1, "a", 3, 4]]', '"a" at [1][1]'),
        ("[[[1, 2], [3, null]]]", "null at [0][1][1]"),
        ("[[1, 2, 3, 4], [1]]", "rows of 1 to 4 values, or nested unevenly"),
        ("[[1, 2, 3]]", "shape (1, 3)"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(bad: str, found: str) -> None:
    with pytest.raises(RequestError) as refused:
        rows_in(f'{{"inputs": {bad}}}')
    assert refused.value.found == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"inputs": [[1, 2',
        b'{"inputs": [[NaN, 2, 3, 4]]}',
        b'{"inputs": [[-Infinity, 2, 3, 4]]}',
        b'{"inputs": [[1e999, 2, 3, 4]]}',
        b'{"ids": ["\xff"]}',
        b'{"ids": ["\\ud800"]}',
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda body: str(body[:30]),
)
def test_what_is_no_json_in_utf8_is_malformed(body: bytes) -> None:
    for decode in (decode_embed, decode_search):
        with pytest.raises(MalformedError) as refused:
            decode(body, BOUNDS)
        assert (refused.value.status, refused.value.field) == (400, "body")


def test_a_long_string_beside_numbers_costs_no_memory() -> None:
    """NumPy would give every number of the array the string's length: 4 GB here."""
    body = json.dumps({"inputs": [["x" * 1_000_000, *range(1_000)]]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            decode_embed(body, BOUNDS)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("field", ["inputs", "embeddings", "ids"])
def test_more_rows_than_the_bound_are_too_large(field: str) -> None:
    for count, right in ((5, True), (6, False)):
        row: Any = "a" if field == "ids" else [0.5] * BOUNDS.width(field)
        body = json.dumps({field: [row] * count}).encode()
        if right:
            decode_search(body, BOUNDS)
        else:
            with pytest.raises(TooLargeError, match="at most 5"):
                decode_search(body, BOUNDS)


@pytest.mark.parametrize("limit", [1, 50])
def test_a_limit_within_the_bounds_is_taken(limit: int) -> None:
    assert pick_limit(limit, BOUNDS) == limit


@pytest.mark.parametrize("limit", [0, -1, 51, 10**9, 10**30, 1.5, 3.0, "3", True, None, [], {}, [[[3]]]])
def test_any_other_limit_is_refused(limit: Any) -> None:
    with pytest.raises(LookalikeError) as refused:
        decode_search(json.dumps({"ids": ["a"], "limit": limit}).encode(), BOUNDS)
    assert refused.value.field == "limit"
    assert "1 to 50" in refused.value.expected


@pytest.mark.parametrize(
    ("fields", "field", "found"),
    [
        ({"inputs": [[1] * 4], "ids": ["a"]}, "inputs, embeddings, ids", "inputs and ids"),
        ({"limit": 3}, "inputs, embeddings, ids", "none"),
        ({"ids": None}, "inputs, embeddings, ids", "none"),
        ({"ids": []}, "ids", "a list of 0"),
        ({"ids": [1]}, "ids", "a list of 1"),
        ({"ids": ["a", None]}, "ids", "a list of 2"),
        ({"ids": "a"}, "ids", '"a"'),
        ({"ids": ["a"], "with_payload": 1}, "with_payload", "1"),
        ({"ids": ["a"], "with_payload": "true"}, "with_payload", '"true"'),
        ({"ids": ["a"], "with_payload": [[[]]]}, "with_payload", "a list of 1"),
        ({"ids": ["a"], "top": 3}, "top", "an unknown field"),
        ({"ids": "x" * 100}, "ids", '"' + "x" * 39 + "…"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str, found: str) -> None:
    with pytest.raises(RequestError) as refused:
        decode_search(json.dumps(fields).encode(), BOUNDS)
    assert (refused.value.field, refused.value.found) == (field, found)


@example({"inputs": [[1, 2, 3, 4]], "limit": 10**400})
@given(VALUES | st.dictionaries(FIELD, VALUES) | st.fixed_dictionaries({"inputs": VALUES}))
def test_any_json_is_decoded_or_refused(value: Any) -> None:
    body = json.dumps(value).encode()
    for decode in (decode_embed, decode_search):
        with contextlib.suppress(LookalikeError):
            decode(body, BOUNDS)


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for decode in (decode_embed, decode_search):
        with pytest.raises(LookalikeError):
            decode(body, BOUNDS)


VALUES_1_TO_4 = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "<i4", ">i8", "u1", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 2)])
def test_an_npy_of_any_number_type_and_order_holds_the_same_rows(dtype: str, order: Any, shape: Any) -> None:
    array = np.asarray(VALUES_1_TO_4.reshape(shape), dtype, order=order)
    decoded = decode_npy(to_npy(array), "inputs", BOUNDS)
    assert decoded.tolist() == VALUES_1_TO_4.tolist()
    assert (decoded.dtype.str, decoded.flags.c_contiguous) == ("<f4", True)


def npy(header: str, values: bytes = bytes(16), magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    return magic + struct.pack("<H", len(header)) + header.encode("latin-1") + values


def claims(shape: str, descr: str = "'<f4'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


GOOD = to_npy(np.ones((1, 4), np.float32))
DAMAGED: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "JSON": (b'{"inputs": [[1, 2, 3, 4]]}', 400),
    "values cut": (GOOD[:-1], 400),
    "values added": (GOOD + b"\x00", 400),
    "header cut": (GOOD[:40], 400),
    "another version of the format": (npy("", magic=b"\x93NUMPY\x09\x00"), 400),
    "an unfinished header": (npy("{'descr': ("), 400),
    "half a dtype": (claims("(1, 4)", "('<f4',)"), 400),
    "a header of brackets": (npy("(" * 900), 400),
    "a header of signs": (npy("-" * 900 + "1"), 400),
    "a large header": (npy("{" + " " * 5_000 + "}"), 400),
    "no dictionary": (npy("1"), 400),
    "32 GiB in one row": (claims("(1, 8589934592)"), 422),
    "32 GiB in many rows": (claims("(2147483648, 4)"), 413),
    "more rows than bytes": (claims("(5, 4)"), 400),
    "more rows than the bound": (to_npy(np.ones((6, 4))), 413),
    "objects": (claims("(1, 4)", "'|O'"), 422),
    "records": (claims("(1, 4)", "[('a', '<f4')]"), 422),
    "text": (to_npy(np.array([["a"] * 4])), 422),
    "complex": (to_npy(np.ones((1, 4), complex)), 422),
    "dates": (to_npy(np.zeros((1, 4), "M8[s]")), 422),
    "a negative size": (claims("(-1, 4)"), 422),
    "a boolean size": (claims("(True, 4)"), 422),
    "70 dimensions": (claims("(" + "1, " * 70 + ")"), 422),
    "no rows, and too many columns for memory": (claims(f"(0, {2**70})"), 422),
    "no rows": (to_npy(np.ones((0, 4))), 422),
    "one dimension": (to_npy(np.ones(4)), 422),
    "no dimension": (to_npy(np.array(1.0)), 422),
    "too wide": (to_npy(np.ones((1, 5))), 422),
    "NaN": (to_npy(np.array([[1, np.nan, 3, 4]])), 422),
    "infinity": (to_npy(np.array([[1, 2, 3, -np.inf]])), 422),
    "more than float32 holds": (to_npy(np.array([[1, 2, 3, 1e39]])), 422),
}


@pytest.mark.parametrize(("body", "status"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_npy_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        decode_npy(body, "inputs", BOUNDS)
    assert refused.value.status == status
    assert refused.value.field
    assert refused.value.found


@given(st.integers(0, len(GOOD) * 8 - 1), st.binary(max_size=3))
def test_a_flipped_bit_gives_rows_or_a_refusal(bit: int, tail: bytes) -> None:
    body = bytearray(GOOD)
    body[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(RequestError):
        assert decode_npy(bytes(body) + tail, "inputs", BOUNDS).shape[1] == 4


@given(st.text(max_size=80).map(lambda text: text.encode("latin-1", "replace").decode("latin-1")))
def test_any_header_is_refused(header: str) -> None:
    with pytest.raises(RequestError):
        decode_npy(npy(header), "inputs", BOUNDS)


def test_embeddings_are_as_wide_as_the_latent_space() -> None:
    assert decode_npy(to_npy(np.ones((1, 3))), "embeddings", BOUNDS).shape == (1, 3)
    with pytest.raises(RequestError):
        decode_npy(to_npy(np.ones((1, 2, 2))), "embeddings", BOUNDS)


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("false", False)])
def test_a_flag_in_the_query_string_is_true_or_false(text: str, flag: bool) -> None:
    assert pick_flag(text, "with_payload") is flag


@pytest.mark.parametrize("text", ["", "1", "True", "yes", "true "])
def test_any_other_flag_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="true or false"):
        pick_flag(text, "with_payload")


@pytest.mark.parametrize("rows", [{"inputs": [[1, 2, 3, 4]]}, {"embeddings": [[1, 2, 3]]}, {"ids": ["true"]}])
@pytest.mark.parametrize("given", [RED, {"field": "sold", "equal": True}, {"and": [RED, {"not": RED}]}], ids=str)
def test_a_filter_goes_with_rows_of_any_kind(rows: dict[str, Any], given: dict[str, Any]) -> None:
    """Its texts and flags are none of the rows'."""
    for fields in (rows | {"filter": given}, {"filter": given, "with_payload": False, "limit": 3} | rows):
        asked = decode_search(json.dumps(fields).encode(), BOUNDS)
        assert asked.filter == read_filter(given)
        assert asked.rows.tolist() == [list(map(float, row)) for row in rows.get("inputs", rows.get("embeddings", []))]


@pytest.mark.parametrize("bad", ['[["1", 2, 3, 4]]', "[[true, 2, 3, 4]]", "[[null, 2, 3, 4]]"])
def test_a_filter_hides_no_text_and_no_flag_among_the_rows(bad: str) -> None:
    with pytest.raises(RequestError) as refused:
        decode_search(f'{{"inputs": {bad}, "filter": {json.dumps(RED)}}}'.encode(), BOUNDS)
    assert refused.value.field.startswith("inputs")


@pytest.mark.parametrize("given", [{}, [], 3, "red", True, {"field": "x"}, {"and": []}, {"not": RED | {"in": [1]}}])
def test_what_is_no_filter_is_refused(given: Any) -> None:
    for decode in (
        lambda: decode_search(json.dumps({"ids": ["a"], "filter": given}).encode(), BOUNDS),
        lambda: pick_filter(json.dumps(given)),
    ):
        with pytest.raises(QueryError, match=r"^filter"):
            decode()


def test_a_filter_in_the_query_string_is_json_or_not_there() -> None:
    assert pick_filter(None) is None
    assert pick_filter(json.dumps(RED)) == read_filter(RED)
    for text in ("", "red", "{", "NaN", '{"field": "x", "equal": NaN}', "\ud800"):
        with pytest.raises(LookalikeError) as refused:
            pick_filter(text)
        assert refused.value.field == "filter"


@given(st.text(max_size=30) | VALUES.map(json.dumps))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(LookalikeError):
        pick_filter(text)


def test_one_answer_holds_a_bounded_number_of_hits() -> None:
    asked = decode_search(b'{"ids": ["a", "b", "c"], "limit": 33}', BOUNDS)
    assert check_hits(asked, BOUNDS) is asked
    with pytest.raises(TooLargeError, match="at most 100 hits in one answer, found 102"):
        check_hits(decode_search(b'{"ids": ["a", "b", "c"], "limit": 34}', BOUNDS), BOUNDS)


NAN = float("nan")
MIXED = Bounds(
    (2,),
    3,
    max_rows=5,
    max_limit=50,
    max_hits=100,
    table=TableInputs((Column("size"), Column("colour", "categorical", ("blue", "red"))), frozenset({"size"})),
)
NUMBERS = replace(MIXED, table=TableInputs((Column("a"), Column("b")), frozenset({"b"})))


@pytest.mark.parametrize(
    ("bounds", "rows", "expected"),
    [
        (MIXED, '[[1, "red"], [null, "green"]]', [[1, 1], [NAN, NAN]]),
        (MIXED, '[{"colour": "blue"}, {"colour": null, "size": 3}]', [[NAN, 0], [3, NAN]]),
        (MIXED, '[["null", null]]', None),
        (MIXED, "[[1, 0]]", None),
        (MIXED, '[[1e39, "red"]]', None),
        (NUMBERS, "[[1, 2.5], [3, 4]]", [[1, 2.5], [3, 4]]),
        (NUMBERS, "[[1, null]]", [[1, NAN]]),
        (NUMBERS, '[{"a": 1}, [5, 6]]', [[1, NAN], [5, 6]]),
        (NUMBERS, '[{"b": 1}]', None),
        (NUMBERS, "[{}]", None),
        (NUMBERS, "[[1, true]]", None),
        (NUMBERS, '[[1, "2"]]', None),
        (NUMBERS, "[[1, 2, 3]]", None),
        (NUMBERS, "[1, 2]", None),
        (NUMBERS, "[[1, -1e39]]", None),
    ],
)
def test_rows_of_a_table_are_read_by_its_columns(bounds: Bounds, rows: str, expected: Any) -> None:
    for decode in (decode_embed, decode_search):
        body = f'{{"inputs": {rows}}}'.encode()
        if expected is None:
            with pytest.raises(RequestError) as refused:
                decode(body, bounds)
            assert refused.value.status == 422
            assert refused.value.field.startswith("inputs")
        else:
            decoded = decode(body, bounds).rows
            np.testing.assert_array_equal(decoded, expected)
            assert (decoded.dtype.str, decoded.flags.c_contiguous) == ("<f4", True)


def test_embeddings_have_no_columns_nor_gaps() -> None:
    assert decode_search(b'{"embeddings": [[1, 2, 3]]}', MIXED).rows.tolist() == [[1, 2, 3]]
    for bad in (b"[[1, 2, null]]", b'[{"size": 1}]'):
        with pytest.raises(RequestError):
            decode_search(b'{"embeddings": ' + bad + b"}", MIXED)
    with pytest.raises(RequestError):
        decode_npy(to_npy(np.array([[1, 2, NAN]])), "embeddings", MIXED)


def test_more_rows_of_a_table_than_the_bound_are_too_large() -> None:
    with pytest.raises(TooLargeError):
        decode_embed(json.dumps({"inputs": [{"colour": "red"}] * 6}).encode(), MIXED)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2"])
def test_an_npy_of_a_table_holds_codes_and_nan(dtype: str) -> None:
    given = np.array([[1.5, 1], [NAN, 0], [2, NAN]], dtype)
    np.testing.assert_array_equal(decode_npy(to_npy(given), "inputs", MIXED), given)


@pytest.mark.parametrize("row", [[1, 2], [1, 0.5], [1, -1], [np.inf, 1], [1, -np.inf], [1e39, 0]])
def test_an_npy_of_other_codes_is_refused(row: list[float]) -> None:
    with pytest.raises(RequestError, match=r"inputs\[1\]"):
        decode_npy(to_npy(np.array([[1, 1], row])), "inputs", MIXED)


@given(st.lists(VALUES | st.dictionaries(st.sampled_from(["size", "colour", "x"]), VALUES, max_size=3), max_size=3))
def test_any_rows_for_a_table_are_decoded_or_refused(rows: list[Any]) -> None:
    for bounds in (MIXED, NUMBERS):
        with contextlib.suppress(LookalikeError):
            decoded = decode_embed(json.dumps({"inputs": rows}).encode(), bounds).rows
            assert decoded.shape == (len(rows), 2)
            assert not np.isinf(decoded).any()


def test_an_npy_in_memory_that_may_be_written_to_is_not_copied() -> None:
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    body = bytearray(to_npy(rows))
    decoded = decode_npy(memoryview(body), "inputs", BOUNDS)
    np.testing.assert_array_equal(decoded, rows)
    assert np.shares_memory(decoded, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("shift", [1, 4])
def test_an_npy_whose_numbers_stand_aslant_is_copied(shift: int) -> None:
    """A header may be of any length; and bytes are nobody's to write to."""
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }" + " " * (58 + shift - 1) + "\n"
    for body in (memoryview(bytearray(npy(text, rows.tobytes()))), npy(text, rows.tobytes())):
        decoded = decode_npy(body, "inputs", BOUNDS)
        np.testing.assert_array_equal(decoded, rows)
        assert decoded.flags.carray
