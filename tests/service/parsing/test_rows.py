"""The fast reader of plain rows reads the same as json, or leaves the body to the reader of values."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.service.errors import TooLargeError
from lookalike.service.parsing.decoding import decode_search
from lookalike.service.parsing.rows import FIELD_BYTES, SPARE_COMMAS, RequestLimits, read_plain
from lookalike.training.errors import LookalikeError

LIMITS = RequestLimits((3,), 3, max_rows=9, max_limit=10, max_hits=100)
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


def test_reads_plain_rows() -> None:
    body = b'{"limit": 3, "inputs": [[1, 2.5], [-3e2, 18446744073709551615]], "with_payload": false}'
    fields = read_plain(body, LIMITS)
    assert fields is not None
    assert fields.pop("inputs").tolist() == [[1, 2.5], [-300, 2.0**64]]
    assert fields == {"limit": 3, "with_payload": False}


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
def test_leaves_a_body_that_is_not_plain(text: str) -> None:
    assert read_plain(text.encode(), LIMITS) is None


def test_reads_on_after_a_wrong_body() -> None:
    for _ in range(3):
        assert read_plain(b'{"inputs": [[1, "2"]]}', LIMITS) is None
        fields = read_plain(b'{"inputs": [[1, 2]]}', LIMITS)
        assert fields is not None
        assert fields["inputs"].tolist() == [[1, 2]]


def test_an_array_does_not_change_when_the_next_body_is_read() -> None:
    first = read_plain(b'{"inputs": [[1, 2]]}', LIMITS)
    read_plain(b'{"inputs": [[8, 9]]}', LIMITS)
    assert first is not None
    assert first["inputs"].tolist() == [[1, 2]]


@settings(max_examples=200)
@given(BODY, st.sampled_from([None, 1]))
def test_reads_the_same_as_json_or_nothing(body: dict[str, Any], indent: int | None) -> None:
    fields = read_plain(json.dumps(body, indent=indent).encode(), LIMITS)
    if fields is not None:
        (kind,) = fields.keys() & {"inputs", "embeddings"}
        rows, expected = fields.pop(kind), np.array(body.pop(kind), np.float64)
        assert fields == body
        assert expected.ndim == 2
        np.testing.assert_array_equal(rows, expected)


@settings(max_examples=200)
@given(ROWS | VALUE, st.integers(1, 4), st.sampled_from(["inputs", "embeddings"]), st.integers(-1, 3) | VALUE)
def test_both_readers_give_the_same_query_or_the_same_status(rows: Any, width: int, kind: str, limit: Any) -> None:
    """A name that occurs twice makes a body go to the reader of values."""
    limits = RequestLimits((width,), width, max_rows=3, max_limit=2, max_hits=5)
    fast = json.dumps({kind: rows, "limit": limit, "with_payload": True}).encode()
    slow = b'{"with_payload": false, ' + fast[1:]
    assert read_plain(slow, limits) is None
    assert _outcome(fast, limits) == _outcome(slow, limits)


def _outcome(body: bytes, limits: RequestLimits) -> Any:
    """The query, or the status of the error."""
    try:
        query = decode_search(body, limits)
        return {**vars(query), "rows": query.rows.tolist()}
    except LookalikeError as error:
        return getattr(error, "status", 422)


CONDITION = {"field": "a[b", "in": ["[", "é", 1, 2.5, -3, True, '\\]"']}
FILTER = {"and": [CONDITION, {"not": {"field": "x", "exists": True}}]}


@pytest.mark.parametrize("indent", [None, 2])
def test_reads_a_filter_with_plain_rows(indent: int | None) -> None:
    body = json.dumps({"inputs": [[1, 2], [3, 4]], "filter": FILTER, "limit": 3}, indent=indent).encode()
    fields = read_plain(body, LIMITS)
    assert fields is not None
    np.testing.assert_array_equal(fields.pop("inputs"), [[1, 2], [3, 4]])
    assert fields == {"filter": FILTER, "limit": 3}


def test_refuses_a_filter_that_is_too_large() -> None:
    wide = {"field": "x", "in": ["t" * 1_000] * (FIELD_BYTES // 1_000)}
    with pytest.raises(TooLargeError, match=f"filter: expected at most {FIELD_BYTES} bytes"):
        read_plain(json.dumps({"inputs": [[1, 2]], "filter": wide}).encode(), LIMITS)


def test_refuses_many_more_values_than_the_rows_may_have_without_parsing() -> None:
    """Not even the end of the body is needed."""
    assert read_plain(b"[" + b"1," * (SPARE_COMMAS + 27), LIMITS) is None
    with pytest.raises(TooLargeError, match="at most 27 values"):
        read_plain(b"[" + b"1," * (SPARE_COMMAS + 28), LIMITS)
