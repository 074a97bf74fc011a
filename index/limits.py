"""Limits of a query: the number of hits and the size of a filter."""

from typing import Any

from lookalike.index.errors import QueryError
from lookalike.index.shown import truncate_repr

__all__ = [
    "DEFAULT_LIMIT",
    "MAX_CONDITIONS",
    "MAX_FOUND",
    "MAX_LIMIT",
    "MAX_TEXT",
    "MAX_VALUES",
    "FilterBudget",
    "check_limit",
]

DEFAULT_LIMIT = 10
MAX_LIMIT = 1_024
"""The most neighbors of one search."""
MAX_FOUND = 4 * MAX_LIMIT
"""The most neighbors requested from the index itself, which may exceed the limit to include all equal scores."""

MAX_CONDITIONS, MAX_VALUES = 256, 10_000
MAX_TEXT = 1 << 20
"""The most characters of all texts in a filter together, including field names."""


class FilterBudget:
    """The remaining limits while a filter is parsed."""

    def __init__(self) -> None:
        self._conditions, self._values, self._text = MAX_CONDITIONS, MAX_VALUES, MAX_TEXT

    def take(self, field: str, values: list[Any]) -> None:
        """Count one more condition. Raise QueryError if the whole filter is too large."""
        self._conditions -= 1
        self._values -= len(values)
        self._text -= len(field) + sum(len(value) for value in values if isinstance(value, str))
        for left, most, what in (
            (self._conditions, MAX_CONDITIONS, "conditions"),
            (self._values, MAX_VALUES, "values in all its lists together"),
            (self._text, MAX_TEXT, "characters of text in all its conditions together"),
        ):
            if left < 0:
                raise QueryError("filter", expected=f"at most {most:,} {what}", found=f"at least {most - left:,}")


def check_limit(limit: int, most: int = MAX_LIMIT) -> None:
    """Raise QueryError unless 1 <= limit <= most."""
    if not 1 <= limit <= most:
        raise QueryError("limit", expected=f"from 1 to {most}", found=truncate_repr(limit))
