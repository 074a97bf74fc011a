"""Where a table's columns lie among the features that a model sees.

    numbers that were always there | numbers that were sometimes missing | is it missing? | categories, one-hot

A number is one feature; where it was sometimes missing in training, a second one says whether it is. A category is
one feature, a slot, for each of its values, and one more, the last, where it was sometimes missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike.training.tables.columns import FittedColumn

__all__ = ["Layout", "Slots", "lay_out"]


@dataclass(frozen=True)
class Slots:
    """The features of one category: those from `start` on, `count` of them; `rest`: the last is for missing ones."""

    column: int
    start: int
    count: int
    rest: bool

    @property
    def stop(self) -> int:
        return self.start + self.count


@dataclass(frozen=True)
class Layout:
    """Positions only: of raw columns, and of features.

    Attributes:
        width: how many raw columns there are.
        numbers: the raw columns of numbers, in the order of their features; the first feature is 0.
        sometimes: how many of them, the last ones, were sometimes missing in training, and have an indicator.
        categories: in the order of their columns and of their features.
    """

    width: int
    numbers: tuple[int, ...]
    sometimes: int
    categories: tuple[Slots, ...]

    @property
    def first_slot(self) -> int:
        """Where the numbers and their indicators end, and the categories begin."""
        return len(self.numbers) + self.sometimes

    @property
    def features(self) -> int:
        return self.categories[-1].stop if self.categories else self.first_slot

    @property
    def plain(self) -> bool:
        """Are there only numbers that were always there, so that the features are the columns?"""
        return not self.sometimes and not self.categories

    @property
    def owners(self) -> tuple[int, ...]:
        """(features,): the raw column that each feature is of."""
        indicated = self.numbers[len(self.numbers) - self.sometimes :]
        return self.numbers + indicated + tuple(slots.column for slots in self.categories for _ in range(slots.count))


def lay_out(fitted: Sequence[FittedColumn]) -> Layout:
    """The layout of columns, in the order in which raw rows have them."""
    numeric = [number for number, one in enumerate(fitted) if one.column.kind == "numeric"]
    numbers = sorted(numeric, key=lambda number: fitted[number].missing > 0)
    sometimes = sum(fitted[number].missing > 0 for number in numeric)
    categories: list[Slots] = []
    start = len(numbers) + sometimes
    for number, one in enumerate(fitted):
        if one.column.kind != "numeric":
            rest = one.missing > 0
            categories.append(Slots(number, start, len(one.counts) + rest, rest))
            start = categories[-1].stop
    return Layout(len(fitted), tuple(numbers), sometimes, tuple(categories))
