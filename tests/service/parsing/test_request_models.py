"""A body is decoded exactly if its model accepts it and its rows, filter and ids are right."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lookalike.index.items.filters import read_filter
from lookalike.index.items.ids import id_problem
from lookalike.service.parsing.decoding import decode_embed, decode_search
from lookalike.service.parsing.item_bodies import decode_items
from lookalike.service.parsing.request_models import EmbedRequest, PutRequest, SearchRequest
from lookalike.service.parsing.rows import RequestLimits
from lookalike.training.errors import LookalikeError

BOUNDS = RequestLimits((2, 2), 3, max_rows=5, max_limit=50, max_hits=100, spaces={1: 4, 2: 3})
NUMBER = st.integers(-9, 9) | st.floats(-1e6, 1e6)
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, "3", [], {}, [[]], [["a"]], [[None]], [[True]], [3], ["a", 1], [{}]]
)


def matrix(width: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(NUMBER, min_size=width, max_size=width), min_size=1, max_size=5)


RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "inputs": matrix(4),
    "embeddings": matrix(3) | matrix(4),
    "version": st.integers(-1, 3),
    "ids": st.lists(st.text("abc", max_size=3), min_size=1, max_size=5),
    "limit": st.integers(1, 50),
    "with_payload": st.booleans(),
    "encoding_format": st.sampled_from(["float", "base64"]),
    "filter": st.none()
    | st.sampled_from([{"field": "x", "equal": 1}, {"not": {"field": "a.b", "range": {"gt": "c"}}}]),
}
FIELDS = st.fixed_dictionaries({}, optional={name: right | right | WRONG for name, right in RIGHT.items()})
BODIES = FIELDS | st.builds(lambda fields, name: fields | {name: 1}, FIELDS, st.text("xyz", max_size=2))


def decodes(decode: Any, body: bytes) -> bool:
    try:
        decode(body, BOUNDS)
    except LookalikeError:
        return False
    return True


def fits(schema: type[BaseModel], body: bytes) -> bool:
    try:
        schema.model_validate_json(body, strict=True)
    except ValidationError:
        return False
    return True


def only_numbers(rows: Any, width: int) -> bool:
    """Whether the rows are numbers of the encoder's width, which the model does not check."""
    if not isinstance(rows, list) or not rows:
        return False
    return all(
        isinstance(row, list) and len(row) == width and all(type(v) in {int, float} for v in row) for row in rows
    )


def is_filter(given: Any) -> bool:
    """Whether it is a filter; index.items.filters has the grammar."""
    try:
        return given is None or bool(read_filter(given))
    except LookalikeError:
        return False


@given(BODIES)
def test_decodes_a_search_exactly_if_model_and_widths_allow(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    kinds = [name for name in ("inputs", "embeddings", "ids") if fields.get(name) is not None]
    right = fits(SearchRequest, body) and len(kinds) == 1 and is_filter(fields.get("filter"))
    if right and (number := fields.get("version")) is not None:
        right = kinds == ["embeddings"] and number in BOUNDS.spaces
    if right and kinds != ["ids"]:
        right = only_numbers(fields[kinds[0]], 4 if fields.get("version") == 1 or kinds == ["inputs"] else 3)
    assert decodes(decode_search, body) == right


@given(st.fixed_dictionaries({}, optional={"inputs": matrix(4) | WRONG, "limit": st.just(1)}))
def test_decodes_an_embed_request_exactly_if_model_and_width_allow(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    assert decodes(decode_embed, body) == (fits(EmbedRequest, body) and only_numbers(fields.get("inputs"), 4))


ROW = st.lists(NUMBER, min_size=4, max_size=4)
NESTED = ROW.map(lambda row: [row[:2], row[2:]])
ID = st.text("ab/\n", max_size=2)
PAYLOAD = st.dictionaries(st.text("ab", max_size=1), st.none() | NUMBER | st.lists(NUMBER | st.text("["), max_size=2))
ITEM = st.fixed_dictionaries(
    {"id": ID | ID | WRONG, "input": ROW | NESTED | WRONG}, optional={"payload": PAYLOAD | PAYLOAD | WRONG}
)
ITEMS = st.lists(ITEM, min_size=1, max_size=3)


def flat(row: Any) -> Any:
    """The row, flat if it is nested in the input shape."""
    nested = type(row) is list and [type(part) is list and len(part) == 2 for part in row] == [True, True]
    return [*row[0], *row[1]] if nested else row


@given(st.fixed_dictionaries({}, optional={"items": ITEMS | ITEMS | WRONG, "limit": st.just(1)}) | BODIES)
def test_decodes_items_exactly_if_model_ids_and_shape_allow(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    right = fits(PutRequest, body)
    if right:
        ids = [item["id"] for item in fields["items"]]
        right = len(set(ids)) == len(ids) and not any(map(id_problem, ids))
        right = right and only_numbers([flat(item["input"]) for item in fields["items"]], 4)
    assert decodes(decode_items, body) == right


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'{"ids": ["a"]', b'{"ids": ["\xff"]}', b"{}"])
def test_refuses_json_that_is_not_an_object(body: bytes) -> None:
    assert not decodes(decode_search, body)
    assert not (fits(SearchRequest, body) and json.loads(body))


def test_the_defaults_are_the_same() -> None:
    asked, described = decode_search(b'{"ids": ["a"]}', BOUNDS), SearchRequest(ids=["a"])
    assert (asked.limit, asked.with_payload) == (described.limit, described.with_payload) == (10, True)
    assert asked.filter is None
    assert described.filter is None
