import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from lookalike.service.errors import MalformedError, RequestError
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import DeleteParams, ItemParams, ListParams, NpyParams
from lookalike.training.errors import LookalikeError

RED: dict[str, Any] = {"field": "color", "equal": "red"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def read(**texts: str) -> NpyParams:
    return read_params(NpyParams, QueryParams(texts))


def refused(**texts: str) -> LookalikeError:
    with pytest.raises(LookalikeError) as error:
        read(**texts)
    return error.value


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("false", False)])
def test_reads_a_flag(text: str, flag: bool) -> None:
    assert read(with_payload=text).with_payload is flag


@pytest.mark.parametrize("text", ["", "1", "True", "yes", "null", "[true]"])
def test_refuses_any_other_flag(text: str) -> None:
    error = refused(with_payload=text)
    assert (error.field, error.expected) == ("with_payload", "true or false")


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("12", 12)])
def test_reads_a_whole_number(text: str, number: int) -> None:
    assert read(limit=text).limit == number


@pytest.mark.parametrize(
    "text",
    ["", "-", "--1", "+1", "1.0", "1e3", "1_0", "007", "²", "٣", "9" * 5_000, "three", "true", "null"],
)
def test_refuses_any_other_number(text: str) -> None:
    error = refused(limit=text)
    assert (error.field, len(error.found) < 60) == ("limit", True)


def test_a_sequence_is_within_64_bits() -> None:
    assert read(min_sequence=str(2**63 - 1)).min_sequence == 2**63 - 1
    for text in (str(2**63), "9" * 30):
        assert refused(min_sequence=text).field == "min_sequence"


def test_a_filter_is_json_or_absent() -> None:
    assert read().filter is None
    assert read(filter=json.dumps(RED)).filter == RED
    for text in ("", "red", "{", "NaN", '{"field": "x", "equal": NaN}', "\ud800"):
        error = refused(filter=text)
        assert (type(error), error.field) == (MalformedError, "filter")


@pytest.mark.parametrize("text", ["[]", "3", '"red"', "true"])
def test_a_filter_is_an_object(text: str) -> None:
    assert refused(filter=text).field == "filter"


@pytest.mark.parametrize("value", [9223372036854775808, 18446744073709551617, -9223372036854775809])
def test_keeps_large_integers_of_a_filter_exact(value: int) -> None:
    assert read(filter=json.dumps({"field": "n", "in": [1, value]})).filter == {"field": "n", "in": [1, value]}


def test_a_deletion_needs_a_filter() -> None:
    assert read_params(DeleteParams, QueryParams({"filter": json.dumps(RED)})).filter == RED
    for texts in ({}, {"filter": "null"}, {"filter": ""}):
        with pytest.raises(RequestError, match="filter"):
            read_params(DeleteParams, QueryParams(texts))


def test_after_is_text_as_it_is() -> None:
    for text in ("", "12", "true", "shelf 3/new"):
        assert read_params(ListParams, QueryParams({"after": text})).after == text


@given(st.text(max_size=30) | VALUES.map(json.dumps))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(LookalikeError):
        read(filter=text)


@pytest.mark.parametrize(
    ("text", "field"),
    [("limit=1&lmit=2", "lmit"), ("limit=1&limit=1", "limit"), ("=1", "a field without a name"), ("x" * 99, "x" * 64)],
)
def test_refuses_a_name_that_is_unknown_or_given_twice(text: str, field: str) -> None:
    for model in (ListParams, ItemParams):
        with pytest.raises(RequestError) as error:
            read_params(model, QueryParams(text))
        assert model is ItemParams or error.value.field == field
