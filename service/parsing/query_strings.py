"""The values of a query string, read and checked; and JSON with exact integers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.datastructures import QueryParams

from lookalike.index.items.filters import Filter, read_filter
from lookalike.index.items.integers import may_hold_large
from lookalike.service.errors import MalformedError, RequestError, truncate_repr

__all__ = ["check_known", "check_sequence", "exact", "pick_filter", "pick_flag", "pick_sequence", "pick_whole"]


def check_known(query: QueryParams, known: Sequence[str]) -> Mapping[str, str]:
    """What is asked by its names. Raises RequestError where it has another name, or one twice."""
    if unknown := sorted(set(query) - set(known)):
        raise RequestError(unknown[0][:64] or "a name", expected=f"one of {', '.join(known)}", found="an unknown one")
    names = [name for name, _ in query.multi_items()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(twice[0], expected="it once", found="it several times")
    return dict(query)


def pick_whole(text: str, name: str, expected: str) -> int:
    """A whole number. Raises RequestError where it is none."""
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20):
        raise RequestError(name, expected=expected, found=text[:40] or "nothing")
    return int(text)


def check_sequence(number: Any) -> int:
    """A sequence number of the change log. Raises RequestError if it is none."""
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise RequestError("min_sequence", expected="an integer from 0 to 2^63 - 1", found=truncate_repr(number))
    return number


def pick_sequence(text: str | None) -> int:
    """A sequence number of the change log; 0 if none is given."""
    return 0 if text is None else check_sequence(pick_whole(text, "min_sequence", "an integer from 0 to 2^63 - 1"))


def pick_flag(text: str, name: str) -> bool:
    """true or false in a query string."""
    if text not in {"true", "false"}:
        raise RequestError(name, expected="true or false", found=truncate_repr(text))
    return text == "true"


def pick_filter(text: str | None) -> Filter | None:
    """JSON in a query string. Raises QueryError or MalformedError where it is no filter."""
    if text is None:
        return None
    try:
        return read_filter(exact(text, orjson.loads(text)))
    except orjson.JSONDecodeError as error:
        raise MalformedError("filter", expected="JSON", found=str(error)) from error


def exact(text: str | bytes, parsed: Any) -> Any:
    """JSON as orjson parsed it, or parsed again if it may hold an integer that orjson rounded to a float64.

    Raises:
        MalformedError: values are nested too deeply for the exact parser.
    """
    if not may_hold_large(text):
        return parsed
    try:
        return json.loads(text)
    except RecursionError as error:
        raise MalformedError("body", expected="at most 254 values within each other", found="more") from error
