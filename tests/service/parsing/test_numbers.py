"""The fast reader of numbers against the plain one: what it reads is what json reads, and the rest it leaves alone."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.service.errors import RequestError, TooLargeError
from lookalike.service.parsing.decoding import RequestLimits, decode_search
from lookalike.service.parsing.numbers import FILTER_BYTES, SPARE_COMMAS, check_commas, check_sizes, read_numbers

NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)
VALUE = st.recursive(
    NUMBER | st.booleans() | st.none() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab["), inner, max_size=2),
    max_leaves=12,
)
ROWS = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(NUMBER, min_size=width, max_size=width), max_size=4))
BODY = st.fixed_dictionaries(
    {},
    optional={
        "inputs": ROWS | VALUE,
        "embeddings": ROWS | VALUE,
        "limit": st.integers(-1, 9) | VALUE,
        "with_payload": st.booleans() | VALUE,
        "ids": VALUE,
        "[": VALUE,
    },
)


def test_numbers_by_hand() -> None:
    found = read_numbers(b'{"limit": 3, "inputs": [[1, 2.5], [-3e2, 18446744073709551615]], "with_payload": false}', 9)
    assert found is not None
    assert found.rows.tolist() == [[1, 2.5], [-300, 2.0**64]]
    assert (found.kind, found.beside) == ("inputs", {"limit": 3, "with_payload": False})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "\ufeff{",
        '{"inputs": []}',
        '{"inputs": 1}',
        '{"inputs": [1, 2]}',
        '{"inputs": [[1, 2], [3]]}',
        '{"inputs": [[1, "2"]]}',
        '{"inputs": [[1, true]]}',
        '{"inputs": [[1, null]]}',
        '{"inputs": [[NaN]]}',
        '{"inputs": [[1e999]]}',
        '{"inputs": [[1, [2, 3], []]]}',
        '{"inputs": [[[1]], 3]}',
        '{"inputs": [[1]], "inputs": [[2]]}',
        '{"inputs": [[1]], "embeddings": [[2]]}',
        '{"inputs": [[1]], "ids": ["1"]}',
        '{"inputs": [[1]], "limit": [1]}',
        '{"inputs": [[1]], "with_payload": {}}',
        '{"inputs": [{"a": 1}], "encoding_format": "["}',
        '{"inputs": {"a": [1]}}',
        '{"inputs": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_what_is_not_plain_is_left_to_the_other_reader(text: str) -> None:
    assert read_numbers(text.encode(), 9) is None


def test_a_body_that_was_wrong_is_no_hindrance_to_the_next() -> None:
    for _ in range(3):
        assert read_numbers(b'{"inputs": [[1, "2"]]}', 9) is None
        found = read_numbers(b'{"inputs": [[1, 2]]}', 9)
        assert found is not None
        assert found.rows.tolist() == [[1, 2]]


def test_what_was_read_does_not_change_with_the_next_body() -> None:
    first = read_numbers(b'{"inputs": [[1, 2]]}', 9)
    read_numbers(b'{"inputs": [[8, 9]]}', 9)
    assert first is not None
    assert first.rows.tolist() == [[1, 2]]


@settings(max_examples=500)
@given(BODY, st.sampled_from([None, 1]))
def test_it_reads_what_json_reads_or_nothing(body: dict[str, Any], indent: int | None) -> None:
    found = read_numbers(json.dumps(body, indent=indent).encode(), 9)
    if found is not None:
        assert {found.kind, *found.beside} == body.keys()
        assert found.beside == {name: value for name, value in body.items() if name != found.kind}
        expected = np.array(body[found.kind], np.float64)
        assert expected.ndim == 2
        np.testing.assert_array_equal(found.rows, expected)


@settings(max_examples=500)
@given(ROWS, st.integers(1, 4))
def test_both_ways_to_read_a_body_give_the_same(rows: list[list[float]], width: int) -> None:
    """The same rows nested once more, as the encoder takes them too, go the other way."""
    limits = RequestLimits((width, 1), 3, max_rows=3, max_limit=10, max_hits=100)
    nested = [[[value] for value in row] for row in rows]
    assert read_numbers(json.dumps({"inputs": nested}).encode(), 9) is None
    assert _outcome(rows, limits) == _outcome(nested, limits)


def _outcome(rows: list[Any], limits: RequestLimits) -> Any:
    """The rows as they are read, or the status of the error."""
    try:
        return decode_search(json.dumps({"inputs": rows}).encode(), limits).rows.tolist()
    except RequestError as error:
        return error.status


CONDITION = {"field": "a[b", "in": ["[", "é", 1, 2.5, -3, True, '\\]"']}
FILTER = {"and": [CONDITION, {"not": {"field": "x", "exists": True}}]}


@pytest.mark.parametrize("pretty", [None, 2])
def test_a_filter_beside_the_rows_is_read_and_the_rows_stay_plain(pretty: int | None) -> None:
    body = json.dumps({"inputs": [[1, 2], [3, 4]], "filter": FILTER, "limit": 3}, indent=pretty).encode()
    found = read_numbers(body, 10)
    assert found is not None
    assert found.beside == {"filter": FILTER, "limit": 3}
    np.testing.assert_array_equal(found.rows, [[1, 2], [3, 4]])


def test_a_filter_that_is_too_large_is_refused() -> None:
    wide = {"field": "x", "in": ["t" * 1_000] * (FILTER_BYTES // 1_000)}
    body = json.dumps({"inputs": [[1, 2]], "filter": wide}).encode()
    for check in (read_numbers, check_sizes):
        with pytest.raises(TooLargeError, match=f"filter: expected at most {FILTER_BYTES} bytes"):
            check(body, 10)
    check_sizes(body[: FILTER_BYTES // 2], 10)  # small: the parser of the fields says what is wrong
    check_sizes(body[:-1], 10)  # no JSON: so too


@pytest.mark.parametrize("name", ["inputs", "embeddings", "ids", "items"])
def test_too_long_a_list_of_a_large_body_is_refused_before_it_is_read(name: str) -> None:
    text = "a" * (FILTER_BYTES // 10)
    check_sizes(json.dumps({name: [text] * 11}).encode(), 11)
    with pytest.raises(TooLargeError, match=f"{name}: expected at most 10 in a call, found 11"):
        check_sizes(json.dumps({name: [text] * 11}).encode(), 10)


@pytest.mark.parametrize("name", ["limit", "with_payload", "nothing known"])
def test_another_field_of_a_large_body_is_small(name: str) -> None:
    with pytest.raises(TooLargeError, match=name):
        check_sizes(json.dumps({"ids": ["a"], name: [0] * FILTER_BYTES}).encode(), 10)


def test_many_more_values_than_the_rows_may_have_are_refused_unparsed() -> None:
    """Not even its end need come."""
    check_commas(b"[" + b"1," * (SPARE_COMMAS + 9), 9)
    with pytest.raises(TooLargeError, match="at most 9 values"):
        check_commas(b"[" + b"1," * (SPARE_COMMAS + 10), 9)
