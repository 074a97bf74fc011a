"""The order of a table's features.

    numbers, never missing | numbers, sometimes missing | indicators: is the number missing? | categories, one-hot

A number is one feature. If it was sometimes missing in training, an indicator is a second feature. A category is one
feature, a slot, for each of its values. If it was sometimes missing in training, it has one more slot, the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike.training.tables.columns import FittedColumn

__all__ = ["Layout", "Slots", "lay_out"]


@dataclass(frozen=True)
class Slots:
    """The features of one category: `count` slots from `start` on; `has_missing`: the last is for missing values."""

    column: int
    start: int
    count: int
    has_missing: bool

    @property
    def stop(self) -> int:
        return self.start + self.count


@dataclass(frozen=True)
class Layout:
    """Positions of raw columns and of features.

    Attributes:
        width: the number of raw columns.
        numbers: the raw columns of numbers, in the order of their features, which start at 0.
        indicators: how many of these, the last ones, were sometimes missing in training and have an indicator.
        categories: the slots of each category, in the order of their columns.
    """

    width: int
    numbers: tuple[int, ...]
    indicators: int
    categories: tuple[Slots, ...]

    @property
    def first_slot(self) -> int:
        """The first feature of the categories, after the numbers and their indicators."""
        return len(self.numbers) + self.indicators

    @property
    def features(self) -> int:
        return self.categories[-1].stop if self.categories else self.first_slot

    @property
    def numbers_only(self) -> bool:
        """Whether all columns are numbers that were never missing, so that the features are the columns."""
        return not self.indicators and not self.categories

    @property
    def owners(self) -> tuple[int, ...]:
        """(features,): the raw column of each feature."""
        indicated = self.numbers[len(self.numbers) - self.indicators :]
        return self.numbers + indicated + tuple(slots.column for slots in self.categories for _ in range(slots.count))


def lay_out(fitted: Sequence[FittedColumn]) -> Layout:
    """Return the layout of columns that are in the order of the raw rows."""
    numeric = [number for number, one in enumerate(fitted) if one.column.kind == "numeric"]
    numbers = sorted(numeric, key=lambda number: fitted[number].missing > 0)
    indicators = sum(fitted[number].missing > 0 for number in numeric)
    categories: list[Slots] = []
    start = len(numbers) + indicators
    for number, one in enumerate(fitted):
        if one.column.kind != "numeric":
            has_missing = one.missing > 0
            categories.append(Slots(number, start, len(one.counts) + has_missing, has_missing))
            start = categories[-1].stop
    return Layout(len(fitted), tuple(numbers), indicators, tuple(categories))
