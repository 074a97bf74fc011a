"""How many hits a query may ask for, and how large a whole filter may be."""

from typing import Any

from lookalike.index.errors import QueryError

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
"""The most neighbors that one search may ask for."""
MAX_FOUND = 4 * MAX_LIMIT
"""The most that the index itself is asked for, to see where equal scores end."""

MAX_CONDITIONS, MAX_VALUES = 256, 10_000
MAX_TEXT = 1 << 20
"""Characters of all texts together, field names included."""


class FilterBudget:
    """How much of the limits is left while a filter is read."""

    def __init__(self) -> None:
        self._conditions, self._values, self._text = MAX_CONDITIONS, MAX_VALUES, MAX_TEXT

    def take(self, field: str, values: list[Any]) -> None:
        """Count one more condition. Raises QueryError if the whole filter is too large."""
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
    """Raises QueryError unless 1 <= limit <= most."""
    if not 1 <= limit <= most:
        raise QueryError("limit", expected=f"from 1 to {most}", found=str(limit))
