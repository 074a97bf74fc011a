"""Check integers in payloads and filters: every component represents -2^63 to 2^63 - 1 exactly.

Some JSON parsers silently round a larger integer to a float64. So a larger integer is refused, with an error that
contains it.
"""

from typing import Any

from lookalike.index.shown import truncate_repr

__all__ = ["INT64_MAX", "INT64_MIN", "INTEGERS", "REMEDY", "find_large", "may_hold_large"]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INTEGERS = "integers from -2^63 to 2^63 - 1"
REMEDY = "Write it as text, or with an exponent (1e20) if it may be rounded."
_LONG = b"0" * 19
"""2^63, the first integer that is too large, has 19 digits."""
_DIGITS = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
"""Translates a digit to 0, and any other byte to a space."""


def may_hold_large(text: str | bytes) -> bool:
    """Whether JSON may contain an integer out of bounds; True may be wrong, because of digits in a text."""
    content = text.encode(errors="replace") if isinstance(text, str) else text
    digits = content.translate(_DIGITS)  # a regular expression takes ten times as long, and no other thread runs then
    start = digits.find(_LONG)
    while start >= 0:
        if not start or content[start - 1] not in b'.eE"':
            return True
        end = digits.find(b" ", start)
        start = digits.find(_LONG, end) if end >= 0 else -1
    return False


def find_large(value: Any, path: str) -> tuple[str, str] | None:
    """Return the path, such as payload.sizes[2], and the text of the first integer out of bounds in a JSON value."""
    pending = [(path, value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            pending += reversed([(f"{path}.{str(key)[:64]}", inner) for key, inner in value.items()])
        elif isinstance(value, list | tuple):
            pending += reversed([(f"{path}[{number}]", inner) for number, inner in enumerate(value)])
        elif isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
            return path, truncate_repr(value)
    return None
