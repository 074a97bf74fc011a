import contextlib
import json
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lookalike.index.items.filters import read_filter
from lookalike.service.errors import MalformedError, RequestError, TooLargeError
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.decoding import MAX_ERRORS, decode_embed, decode_search
from lookalike.service.parsing.rows import RequestLimits
from lookalike.training.errors import LookalikeError
from lookalike.training.tables.columns import Column

BOUNDS = RequestLimits((2, 2), 3, max_rows=5, max_limit=50, max_hits=100)
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
        ('[[1, 2, 3, 4], [1, "a", 3, 4]]', ("inputs[1]", '"a" at value 1')),
        ("[[[1, 2], [3, null]]]", ("inputs[0]", "null at value 3")),
        ("[[1, 2, 3, 4], [1]]", ("inputs[1]", "a list of 1")),
        ("[[1, 2, 3]]", ("inputs", "shape (1, 3)")),
    ],
)
def test_an_error_names_the_value_and_its_place(bad: str, found: tuple[str, str]) -> None:
    with pytest.raises(RequestError) as refused:
        rows_in(f'{{"inputs": {bad}}}')
    assert (refused.value.field, refused.value.found) == found


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
def test_refuses_invalid_json_as_malformed(body: bytes) -> None:
    for decode in (decode_embed, decode_search):
        with pytest.raises(MalformedError) as refused:
            decode(body, BOUNDS)
        assert (refused.value.status, refused.value.field) == (400, "body")


def test_a_long_string_between_numbers_takes_no_memory() -> None:
    """NumPy would give every number the string's length, 4 GB in all."""
    body = json.dumps({"inputs": [["x" * 1_000_000, *range(1_000)]]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            decode_embed(body, BOUNDS)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("field", ["inputs", "embeddings", "ids"])
def test_refuses_more_rows_than_the_limit(field: str) -> None:
    for count, right in ((5, True), (6, False)):
        row: Any = "a" if field == "ids" else [0.5] * BOUNDS.width(field)
        body = json.dumps({field: [row] * count}).encode()
        if right:
            decode_search(body, BOUNDS)
        else:
            with pytest.raises(TooLargeError, match="at most 5"):
                decode_search(body, BOUNDS)


@pytest.mark.parametrize("limit", [1, 50])
def test_accepts_a_limit_within_the_bounds(limit: int) -> None:
    assert decode_search(json.dumps({"ids": ["a"], "limit": limit}).encode(), BOUNDS).limit == limit


@pytest.mark.parametrize("limit", [0, -1, 51, 10**9, 10**30, 1.5, 3.0, "3", True, None, [], {}, [[[3]]]])
def test_refuses_any_other_limit(limit: Any) -> None:
    with pytest.raises(LookalikeError) as refused:
        decode_search(json.dumps({"ids": ["a"], "limit": limit}).encode(), BOUNDS)
    assert refused.value.field == "limit"
    assert refused.value.expected in {"from 1 to 50", "an integer"}


@pytest.mark.parametrize(
    ("fields", "field", "found"),
    [
        ({"inputs": [[1] * 4], "ids": ["a"]}, "inputs, embeddings, ids, images", "inputs and ids"),
        ({"limit": 3}, "inputs, embeddings, ids, images", "none"),
        ({"ids": None}, "inputs, embeddings, ids, images", "none"),
        ({"ids": []}, "ids", "a list of 0"),
        ({"ids": [1]}, "ids[0]", "1"),
        ({"ids": ["a", None]}, "ids[1]", "null"),
        ({"ids": "a"}, "ids", '"a"'),
        ({"ids": ["a"], "with_payload": 1}, "with_payload", "1"),
        ({"ids": ["a"], "with_payload": "true"}, "with_payload", '"true"'),
        ({"ids": ["a"], "with_payload": [[[]]]}, "with_payload", "a list of 1"),
        ({"ids": ["a"], "top": 3}, "top", "an unknown field"),
        ({"ids": "x" * 100}, "ids", '"' + "x" * 39 + "…"),
    ],
)
def test_names_a_wrong_field(fields: dict[str, Any], field: str, found: str) -> None:
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


@pytest.mark.parametrize("rows", [{"inputs": [[1, 2, 3, 4]]}, {"embeddings": [[1, 2, 3]]}, {"ids": ["true"]}])
@pytest.mark.parametrize("given", [RED, {"field": "sold", "equal": True}, {"and": [RED, {"not": RED}]}], ids=str)
def test_a_filter_goes_with_rows_of_any_kind(rows: dict[str, Any], given: dict[str, Any]) -> None:
    """The texts and flags of the filter are not counted as parts of the rows."""
    for fields in (rows | {"filter": given}, {"filter": given, "with_payload": False, "limit": 3} | rows):
        asked = decode_search(json.dumps(fields).encode(), BOUNDS)
        assert asked.filter == read_filter(given)
        assert asked.rows.tolist() == [
            list(map(float, row)) for row in rows.get("inputs", rows.get("embeddings", [[]]))
        ]


@pytest.mark.parametrize("bad", ['[["1", 2, 3, 4]]', "[[true, 2, 3, 4]]", "[[null, 2, 3, 4]]"])
def test_refuses_texts_and_flags_in_rows_next_to_a_filter(bad: str) -> None:
    with pytest.raises(RequestError) as refused:
        decode_search(f'{{"inputs": {bad}, "filter": {json.dumps(RED)}}}'.encode(), BOUNDS)
    assert refused.value.field.startswith("inputs")


@pytest.mark.parametrize("given", [{}, [], 3, "red", True, {"field": "x"}, {"and": []}, {"not": RED | {"in": [1]}}])
def test_refuses_an_invalid_filter(given: Any) -> None:
    with pytest.raises(LookalikeError, match=r"^filter"):
        decode_search(json.dumps({"ids": ["a"], "filter": given}).encode(), BOUNDS)


OLDER = replace(BOUNDS, spaces={1: 2, 2: 3})


@pytest.mark.parametrize("rows", ['"ids": ["9223372036854775808"]', '"inputs": [[1, 2, 3, 10000000000000000000000]]'])
def test_an_integer_out_of_bounds_in_a_filter_is_refused_by_its_path(rows: str) -> None:
    given = '{%s, "filter": {"field": "n", "equal": %s}}'
    for value in ("9223372036854775808", "18446744073709551617", "-9223372036854775809"):
        with pytest.raises(LookalikeError, match=f"found {value}") as caught:
            decode_search((given % (rows, value)).encode(), BOUNDS)
        assert caught.value.field == "filter.equal"
    for held in (-(2**63), 2.0**64):
        asked = decode_search((given % (rows, held)).encode(), BOUNDS)
        assert asked.filter == read_filter({"field": "n", "equal": held})


@pytest.mark.parametrize("more", [{}, {"filter": RED}], ids=["plain", "with a filter"])
def test_embeddings_may_be_of_an_older_version_and_are_of_its_dimension(more: dict[str, Any]) -> None:
    """Version 2 serves and has three dimensions; version 1 has two."""
    for number, row in ((1, [4, 5]), (2, [4, 5, 6]), (None, [4, 5, 6])):
        asked = decode_search(json.dumps({"embeddings": [row], "version": number} | more).encode(), OLDER)
        assert (asked.version, asked.rows.tolist()) == (number, [row])
        with pytest.raises(RequestError) as refused:
            decode_search(json.dumps({"embeddings": [[*row, 7]], "version": number} | more).encode(), OLDER)
        assert refused.value.field.startswith("embeddings")
        assert str(len(row)) in refused.value.expected


@pytest.mark.parametrize("number", [0, 3, -1, 10**30, 1.0, True, "1", [1], {}])
def test_refuses_embeddings_of_any_other_version(number: Any) -> None:
    with pytest.raises(RequestError) as refused:
        decode_search(json.dumps({"embeddings": [[4, 5]], "version": number}).encode(), OLDER)
    assert refused.value.field == "version"
    assert refused.value.expected in {"a version whose embeddings are known: 1, 2", "an integer"}


@pytest.mark.parametrize("rows", [{"inputs": [[1, 2, 3, 4]]}, {"ids": ["a"]}])
def test_refuses_a_version_with_inputs_or_ids(rows: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="version: expected a search by embeddings"):
        decode_search(json.dumps(rows | {"version": 1}).encode(), OLDER)


def test_refuses_too_many_hits_in_one_answer() -> None:
    assert decode_search(b'{"ids": ["a", "b", "c"], "limit": 33}', BOUNDS).limit == 33
    with pytest.raises(TooLargeError, match="at most 100 hits in one answer, found 102"):
        decode_search(b'{"ids": ["a", "b", "c"], "limit": 34}', BOUNDS)


@pytest.mark.parametrize("count", [MAX_ERRORS // 2, 2 * MAX_ERRORS])
def test_a_body_of_many_unknown_fields_is_refused(count: int) -> None:
    with pytest.raises(RequestError) as refused:
        decode_search(json.dumps({f"x{number}": 1 for number in range(count)}).encode(), BOUNDS)
    assert refused.value.field == ("x0" if count < MAX_ERRORS else "body")


NAN = float("nan")
MIXED = RequestLimits(
    (2,),
    3,
    max_rows=5,
    max_limit=50,
    max_hits=100,
    table=TableInputs((Column("size"), Column("colour", "categorical", ("blue", "red")))),
)
NUMBERS = replace(MIXED, table=TableInputs((Column("a"), Column("b"))))


@pytest.mark.parametrize(
    ("limits", "rows", "expected"),
    [
        (MIXED, '[[1, "red"], [null, "green"]]', [[1, 1], [NAN, NAN]]),
        (MIXED, '[{"colour": "blue"}, {"colour": null, "size": 3}]', [[NAN, 0], [3, NAN]]),
        (MIXED, '[["null", null]]', None),
        (MIXED, "[[1, 0]]", None),
        (MIXED, '[[1e39, "red"]]', None),
        (NUMBERS, "[[1, 2.5], [3, 4]]", [[1, 2.5], [3, 4]]),
        (NUMBERS, "[[1, null]]", [[1, NAN]]),
        (NUMBERS, '[{"a": 1}, [5, 6]]', [[1, NAN], [5, 6]]),
        (NUMBERS, '[{"b": 1}]', [[NAN, 1]]),
        (NUMBERS, "[{}]", None),
        (NUMBERS, "[[1, true]]", None),
        (NUMBERS, '[[1, "2"]]', None),
        (NUMBERS, "[[1, 2, 3]]", None),
        (NUMBERS, "[1, 2]", None),
        (NUMBERS, "[[1, -1e39]]", None),
    ],
)
def test_rows_of_a_table_are_read_by_its_columns(limits: RequestLimits, rows: str, expected: Any) -> None:
    for decode in (decode_embed, decode_search):
        body = f'{{"inputs": {rows}}}'.encode()
        if expected is None:
            with pytest.raises(RequestError) as refused:
                decode(body, limits)
            assert refused.value.status == 422
            assert refused.value.field.startswith("inputs")
        else:
            decoded = decode(body, limits).rows
            np.testing.assert_array_equal(decoded, expected)
            assert (decoded.dtype.str, decoded.flags.c_contiguous) == ("<f4", True)


def test_embeddings_have_no_columns_and_no_nulls() -> None:
    assert decode_search(b'{"embeddings": [[1, 2, 3]]}', MIXED).rows.tolist() == [[1, 2, 3]]
    for bad in (b"[[1, 2, null]]", b'[{"size": 1}]'):
        with pytest.raises(RequestError):
            decode_search(b'{"embeddings": ' + bad + b"}", MIXED)


def test_refuses_more_table_rows_than_the_limit() -> None:
    with pytest.raises(TooLargeError):
        decode_embed(json.dumps({"inputs": [{"colour": "red"}] * 6}).encode(), MIXED)


@given(st.lists(VALUES | st.dictionaries(st.sampled_from(["size", "colour", "x"]), VALUES, max_size=3), max_size=3))
def test_any_rows_for_a_table_are_decoded_or_refused(rows: list[Any]) -> None:
    for limits in (MIXED, NUMBERS):
        with contextlib.suppress(LookalikeError):
            decoded = decode_embed(json.dumps({"inputs": rows}).encode(), limits).rows
            assert decoded.shape == (len(rows), 2)
            assert not np.isinf(decoded).any()


FAR = replace(BOUNDS, input_shape=(2,), latent_dim=2, origin=np.array([1.76e9, 0]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"inputs": [[1760000000.25, 1.5], [1760000031, 2]]}', [[0.25, 1.5], [31, 2]]),
        ('{"inputs": [[1760000000, 1], [-1760000000, 2]]}', [[0, 1], [-3.52e9, 2]]),
        ('{"inputs": [[1760000000.25, 1.5]], "filter": {"field": "a", "equal": "1"}}', [[0.25, 1.5]]),
        ('{"embeddings": [[1760000000.25, 1.5]]}', [[1.76e9, 1.5]]),
    ],
)
def test_subtracts_the_origin_from_inputs_only(text: str, expected: Any) -> None:
    rows = decode_search(text.encode(), FAR).rows
    assert rows.tolist() == expected
    assert rows.dtype == np.float32


def test_subtracts_the_origin_from_table_rows_with_nulls() -> None:
    table = TableInputs((Column("when"), Column("kind", "categorical", ("a", "b"))))
    rows = '{"inputs": [{"when": 1760000000.25, "kind": "b"}, [null, "a"]]}'
    np.testing.assert_array_equal(decode_embed(rows.encode(), replace(FAR, table=table)).rows, [[0.25, 1], [np.nan, 0]])


def test_refuses_values_that_do_not_fit_float32_after_the_origin() -> None:
    with pytest.raises(RequestError, match="finite numbers that fit float32"):
        decode_embed(b'{"inputs": [[1e39, 0]]}', FAR)
