import json
from typing import Any

import pytest

from lookalike.service.errors import MalformedError, RequestError, TooLargeError
from lookalike.service.parsing.json_bodies import check_sizes, parse_exactly
from lookalike.service.parsing.rows import FIELD_BYTES


@pytest.mark.parametrize("value", [2**53 + 1, 2**64 - 1, 2**64, -(2**63) - 1, 10**300, 1.5, "9" * 30, None, [{}]])
def test_integers_stay_exact(value: Any) -> None:
    parsed = parse_exactly(json.dumps({"a": value}))["a"]
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "1e999", '"\\ud800"', "[" * 5_000, "1" * 5_000])
def test_refuses_what_is_not_json(text: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_exactly(text.encode(), "filter")
    assert (refused.value.field, len(refused.value.found) < 200) == ("filter", True)


def test_refuses_a_large_filter() -> None:
    wide = {"field": "x", "in": ["t" * 1_000] * (FIELD_BYTES // 1_000)}
    body = json.dumps({"inputs": [[1, 2]], "filter": wide}).encode()
    with pytest.raises(TooLargeError, match=f"filter: expected at most {FIELD_BYTES} bytes"):
        check_sizes(body, 10)
    check_sizes(body[: FIELD_BYTES // 2], 10)  # small: the parser of the fields names the error
    check_sizes(body[:-1], 10)  # not JSON: so too


@pytest.mark.parametrize("name", ["inputs", "embeddings", "ids", "items"])
def test_refuses_a_long_list_of_a_large_body_before_it_is_read(name: str) -> None:
    text = "a" * (FIELD_BYTES // 10)
    check_sizes(json.dumps({name: [text] * 11}).encode(), 11)
    with pytest.raises(TooLargeError, match=f"{name}: expected at most 10 in a call, found 11"):
        check_sizes(json.dumps({name: [text] * 11}).encode(), 10)


def test_refuses_a_large_body_of_many_fields() -> None:
    with pytest.raises(RequestError, match="body: expected at most 1000 fields"):
        check_sizes(json.dumps({f"field {number}": 1 for number in range(FIELD_BYTES // 10)}).encode(), 10)


@pytest.mark.parametrize("name", ["limit", "with_payload", "nothing known"])
def test_refuses_any_other_large_field(name: str) -> None:
    with pytest.raises(TooLargeError, match=name):
        check_sizes(json.dumps({"ids": ["a"], name: [0] * FIELD_BYTES}).encode(), 10)


def test_refuses_a_large_payload_before_it_is_read() -> None:
    items = [{"id": "a"}, {"id": "b", "payload": {"x": [0] * FIELD_BYTES}}]
    with pytest.raises(TooLargeError, match=r"items\[1\]\.payload: expected at most 65536 bytes of JSON"):
        check_sizes(json.dumps({"items": items}).encode(), 10)
