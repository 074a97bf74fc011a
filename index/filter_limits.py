"""How large a whole filter may be."""

from typing import Any

from index.errors import QueryError

__all__ = ["MAX_CONDITIONS", "MAX_TEXT", "MAX_VALUES", "FilterBudget"]

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
