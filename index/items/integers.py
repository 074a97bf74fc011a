"""Integers in payloads and filters: from -2^63 to 2^63 - 1, which every part of the chain holds exactly.

A JSON parser that makes a float64 of a larger integer rounds it silently. So a larger integer is refused, and the error
names it.
"""

import re
from typing import Any

from lookalike.index.shown import truncate_repr

__all__ = ["INT64_MAX", "INT64_MIN", "INTEGERS", "REMEDY", "find_large", "may_hold_large"]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INTEGERS = "integers from -2^63 to 2^63 - 1"
REMEDY = "Write it as text, or with an exponent (1e20) if it may be rounded."
_LONG = re.compile(r'(?<![\d.eE"])\d{19}')
_LONG_BYTES = re.compile(_LONG.pattern.encode())
"""2^63, the first integer that is too large, has 19 digits."""


def may_hold_large(text: str | bytes) -> bool:
    """False if JSON has no integer out of bounds; True if it may have one, because digits in a text look the same."""
    return bool(_LONG.search(text) if isinstance(text, str) else _LONG_BYTES.search(text))


def find_large(value: Any, place: str) -> tuple[str, str] | None:
    """Where in a JSON value the first integer out of bounds is, such as payload.sizes[2], and what it is."""
    waiting = [(place, value)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            waiting += reversed([(f"{place}.{str(key)[:64]}", inner) for key, inner in value.items()])
        elif isinstance(value, list | tuple):
            waiting += reversed([(f"{place}[{number}]", inner) for number, inner in enumerate(value)])
        elif isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
            return place, truncate_repr(value)
    return None
