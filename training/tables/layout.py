"""The order of a table's features.

    numbers | indicators: is the number missing? | categories, one-hot, each with a last slot for missing values

A number is two features: its value, and an indicator of a missing value. A category is one feature, a slot, for each of
its values, and one more slot, the last, for a missing or unknown value. So an encoder can read a missing value in every
column, even if no value was missing in the training rows: training hides columns (training.corruption).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike.training.tables.columns import FittedColumn

__all__ = ["Layout", "Slots", "lay_out"]


@dataclass(frozen=True)
class Slots:
    """The features of one category: `count` slots from `start` on, of which the last is for missing values."""

    column: int
    start: int
    count: int

    @property
    def stop(self) -> int:
        return self.start + self.count


@dataclass(frozen=True)
class Layout:
    """Positions of raw columns and of features.

    Attributes:
        width: the number of raw columns.
        numbers: the raw columns of numbers, in the order of their features, which start at 0.
        categories: the slots of each category, in the order of their columns.
    """

    width: int
    numbers: tuple[int, ...]
    categories: tuple[Slots, ...]

    @property
    def first_slot(self) -> int:
        """The first feature of the categories, after the numbers and their indicators."""
        return 2 * len(self.numbers)

    @property
    def features(self) -> int:
        return self.categories[-1].stop if self.categories else self.first_slot

    @property
    def owners(self) -> tuple[int, ...]:
        """(features,): the raw column of each feature."""
        return self.numbers * 2 + tuple(slots.column for slots in self.categories for _ in range(slots.count))

    @property
    def missing_at(self) -> tuple[int, ...]:
        """(features,): for each feature, the feature that is 1 if the value of its column is missing."""
        indicators = tuple(range(len(self.numbers), self.first_slot))
        return indicators * 2 + tuple(slots.stop - 1 for slots in self.categories for _ in range(slots.count))


def lay_out(fitted: Sequence[FittedColumn]) -> Layout:
    """Return the layout of columns that are in the order of the raw rows."""
    numbers = tuple(number for number, one in enumerate(fitted) if one.column.kind == "numeric")
    categories: list[Slots] = []
    start = 2 * len(numbers)
    for number, one in enumerate(fitted):
        if one.column.kind != "numeric":
            categories.append(Slots(number, start, len(one.counts) + 1))
            start = categories[-1].stop
    return Layout(len(fitted), numbers, tuple(categories))
