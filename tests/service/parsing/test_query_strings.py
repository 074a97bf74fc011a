import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from lookalike.index.errors import QueryError
from lookalike.index.items.filters import read_filter
from lookalike.service.errors import RequestError
from lookalike.service.parsing.query_strings import check_known, pick_filter, pick_flag, pick_whole
from lookalike.training.errors import LookalikeError

RED: dict[str, Any] = {"field": "colour", "equal": "red"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("false", False)])
def test_a_flag_is_true_or_false(text: str, flag: bool) -> None:
    assert pick_flag(text, "with_payload") is flag


@pytest.mark.parametrize("text", ["", "1", "True", "yes", "true "])
def test_any_other_flag_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="true or false"):
        pick_flag(text, "with_payload")


@pytest.mark.parametrize(
    "given", [{}, [], 3, "red", True, None, {"field": "x"}, {"and": []}, {"not": RED | {"in": []}}]
)
def test_what_is_no_filter_is_refused(given: Any) -> None:
    with pytest.raises(QueryError, match=r"^filter"):
        pick_filter(json.dumps(given))


def test_a_filter_is_json_or_not_there() -> None:
    assert pick_filter(None) is None
    assert pick_filter(json.dumps(RED)) == read_filter(RED)
    for text in ("", "red", "{", "NaN", '{"field": "x", "equal": NaN}', "\ud800"):
        with pytest.raises(LookalikeError) as refused:
            pick_filter(text)
        assert refused.value.field == "filter"


@pytest.mark.parametrize("value", ["9223372036854775808", "18446744073709551617", "-9223372036854775809"])
def test_an_integer_out_of_bounds_is_refused_by_its_path(value: str) -> None:
    with pytest.raises(QueryError, match=f"found {value}") as caught:
        pick_filter(f'{{"field": "n", "in": [9223372036854775807, {value}]}}')
    assert caught.value.field == "filter.in[1]"


@given(st.text(max_size=30) | VALUES.map(json.dumps))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(LookalikeError):
        pick_filter(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("-3", -3), ("007", 7)])
def test_a_whole_number_is_read(text: str, number: int) -> None:
    assert pick_whole(text, "limit", "an integer") == number


@pytest.mark.parametrize("text", ["", "-", "--1", "+1", "1.0", "1e3", " 1", "1_0", "²", "٣", "9" * 20, "three"])
def test_any_other_number_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="limit: expected an integer"):
        pick_whole(text, "limit", "an integer")


@pytest.mark.parametrize(
    ("text", "field"),
    [("limit=1&lmit=2", "lmit"), ("limit=1&limit=1", "limit"), ("=1", "a name"), ("x" * 99, "x" * 64)],
)
def test_a_name_that_is_not_known_or_there_twice_is_refused(text: str, field: str) -> None:
    assert check_known(QueryParams("limit=3"), ("limit",)) == {"limit": "3"}
    with pytest.raises(RequestError) as refused:
        check_known(QueryParams(text), ("limit", "after"))
    assert refused.value.field == field
