import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.items.integers import find_large, may_hold_large


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (2**63 - 1, None),
        (-(2**63), None),
        (2**63, ("payload", "9223372036854775808")),
        (-(2**63) - 1, ("payload", "-9223372036854775809")),
        (1e300, None),
        ("18446744073709551616", None),
        (True, None),
        ({"a": [1, {"b": 2**64}], "c": 2**65}, ("payload.a[1].b", "18446744073709551616")),
        ({"a": {"": [[], [2**200]]}}, ("payload.a.[1][0]", "a number of 201 bits")),
        ([0] * 3, None),
    ],
)
def test_finds_the_first_integer_out_of_bounds(value: object, found: tuple[str, str] | None) -> None:
    assert find_large(value, "payload") == found


def test_searches_values_of_any_depth() -> None:
    deep: object = 2**63
    for _ in range(5_000):
        deep = [deep]
    assert find_large(deep, "x") == ("x" + "[0]" * 5_000, "9223372036854775808")


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("[9223372036854775808]", True),
        ("9223372036854775808", True),
        ("0.12345678901234567890123", False),
        ('["é9223372036854775808", 0.12345678901234567890123, 1]', True),
        ("[0.12345678901234567890123, 1e12345678901234567890, 9223372036854775808]", True),
        ('{"a":-9223372036854775809}', True),
        ("[1, 922337203685477580]", False),
        ("[0.12345678901234567890123]", False),
        ("[1e1234567890123456789]", False),
        ('{"12345678901234567890": "12345678901234567890"}', False),
    ],
)
def test_may_hold_large_excludes_most_texts(text: str, may: bool) -> None:
    assert may_hold_large(text) is may
    assert may_hold_large(text.encode()) is may


@given(
    st.lists(st.sampled_from(["1" * 18, "12345678901234567890", "7", ".", "e", "E", '"', "-", ",", "é"]), max_size=12)
)
def test_may_hold_large_finds_what_a_regular_expression_finds(parts: list[str]) -> None:
    text = "".join(parts)
    assert may_hold_large(text) is bool(re.search(r'(?<![0-9.eE"])[0-9]{19}', text))
