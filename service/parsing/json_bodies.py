"""JSON bodies that the fast readers leave: bounded before Python objects are made of them, parsed, validated.

A Python object takes many times the memory of its JSON text, and while a large body is parsed the process answers no
other call. So the checks count brackets first.
"""

import json
import math
import re
from typing import Any

import orjson
import simdjson

from lookalike.index.items.integers import may_hold_large
from lookalike.service.errors import MalformedError, RequestError, TooLargeError
from lookalike.service.parsing.rows import FIELD_BYTES, JSON_ERRORS, RequestLimits, check_field_bytes

__all__ = [
    "MAX_FIELDS",
    "MAX_PAYLOAD",
    "check_brackets",
    "check_items",
    "check_lists",
    "check_payload_bytes",
    "check_sizes",
    "parse_exactly",
    "parse_json",
    "restore_integers",
]

MAX_PAYLOAD = 1 << 16
"""Bytes of one payload, as JSON."""
MAX_FIELDS = 1_000
"""Fields of a large body; no call has as many as ten."""
SPARE_LISTS = 1_000
"""Lists of a filter."""
BRACKET_BYTES = 16
"""Besides the brackets of its rows, a body with items may have one bracket in so many bytes."""
_LISTS = ("inputs", "embeddings", "ids", "items", "images")
_NEXT_LIST = re.compile(rb"\]\s*,")
"""The end of a list that another list follows; the parser itself limits lists inside lists."""


def parse_json(text: str | bytes, name: str = "body") -> Any:
    """JSON (RFC 8259, without NaN and Infinity); integers beyond 64 bits are rounded to float64.

    Raises MalformedError if it is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedError(name, expected="JSON in UTF-8", found=str(error)) from error


def parse_exactly(text: str | bytes, name: str = "body") -> Any:
    """JSON with exact integers, for filters and payloads; the search for long integers takes as long as to parse.

    Raises MalformedError if it is not JSON, or it is nested too deeply for the exact parser.
    """
    return restore_integers(text, parse_json(text, name), name)


def restore_integers(text: str | bytes, parsed: Any, name: str = "body") -> Any:
    """As `parse_exactly`, for a text that `parse_json` has parsed."""
    if not may_hold_large(text):
        return parsed
    try:
        return json.loads(text)
    except ValueError as error:
        raise MalformedError(name, expected="JSON", found="an integer with too many digits") from error
    except RecursionError as error:
        raise MalformedError(name, expected="at most 254 levels of nesting", found="more levels") from error


def check_lists(body: bytes, limits: RequestLimits) -> None:
    """Raises TooLargeError if the rows of a search or embed request have too many lists; ids may have any bracket."""
    check_sizes(body, limits.max_rows)
    most = SPARE_LISTS + limits.max_rows * _inner_lists(limits)
    if body.count(b"[") > most and b'"ids"' not in body and len(_NEXT_LIST.findall(body)) > most:
        raise TooLargeError("body", expected=f"at most {limits.max_rows} rows in a call", found="more lists")


def check_items(body: bytes, limits: RequestLimits) -> None:
    """Raises TooLargeError if items have too many lists or objects."""
    check_brackets(body, "body", limits.max_rows * max(_inner_lists(limits), 2))
    check_sizes(body, limits.max_rows)


def check_brackets(text: bytes, name: str, expected: int) -> None:
    """Raises TooLargeError if items or payloads have many more lists or objects than `expected`."""
    most = SPARE_LISTS + expected + len(text) // BRACKET_BYTES
    if text.count(b"[") > most or text.count(b"{") > most:
        raise TooLargeError(name, expected=f"at most {most} lists and objects", found="more brackets")


def check_sizes(body: bytes, most: int) -> None:
    """Raises TooLargeError if a large body has a list of more than `most` rows, ids or items, or a large other field;
    RequestError if it has too many fields.

    A body that simdjson cannot parse passes: the next parser names the error.
    """
    if len(body) <= FIELD_BYTES:
        return
    try:
        document = simdjson.Parser().parse(body)
    except JSON_ERRORS:
        return
    if not isinstance(document, simdjson.Object):
        return
    names = list(document)
    if len(names) > MAX_FIELDS:  # each lookup by name scans the fields
        raise RequestError("body", expected=f"at most {MAX_FIELDS} fields", found=str(len(names)))
    for name in names:
        value = document[name]
        if name in _LISTS and isinstance(value, simdjson.Array):
            if len(value) > most:
                raise TooLargeError(name, expected=f"at most {most} in a call", found=str(len(value)))
            for number, item in enumerate(value if name == "items" else ()):
                check_payload_bytes(item, f"items[{number}].payload")
        elif isinstance(value, simdjson.Object | simdjson.Array):
            check_field_bytes(name[:64], len(value.mini))


def check_payload_bytes(item: Any, place: str) -> None:
    """Raises TooLargeError if the payload of an item that simdjson read is much too large, so that no objects are made
    of it."""
    payload = item.get("payload") if isinstance(item, simdjson.Object) else None
    if isinstance(payload, simdjson.Object | simdjson.Array) and (size := len(payload.mini)) > 2 * MAX_PAYLOAD:
        raise TooLargeError(place, expected=f"at most {MAX_PAYLOAD} bytes of JSON", found=str(size))


def _inner_lists(limits: RequestLimits) -> int:
    """The lists of one row that is nested in the input shape; of a window, with the samples up to the next window."""
    if limits.windows:
        return 1 + max(limits.windows.window, limits.windows.hop)
    return sum(math.prod(limits.input_shape[:level]) for level in range(len(limits.input_shape)))
