"""A table's raw columns as features, and features as raw columns: what is missing is filled, categories are one-hot.

A missing number is its column's mean, and says so where the column has an indicator. A missing or unknown category
is the slot for it where the column has one, and else nothing at all: a slot that no training row ever set would
answer with the weights that it was born with. A number that never differed in training carries no information, so
it is taken for what it always was.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lookalike.training.tables.columns import Column, FittedColumn
from lookalike.training.tables.layout import Layout, lay_out

__all__ = ["Table", "build_table"]

_TENSORS = ("numbers", "mean", "constant", "hidden", "owner", "codes", "rest", "members")


@dataclass(frozen=True)
class Table:
    """From raw rows (n, width) to features (n, features) and back; `training.tables.layout` says which is which.

    Attributes:
        numbers: the raw columns of numbers, (m,) int64.
        mean: what stands for a missing number, raw, (m,) float32.
        constant: which numbers never differed, (m,) bool; None where all did.
        hidden: what a feature is, raw, where its column is hidden; NaN for a number without an indicator.
        owner: the raw column of each feature, (features,) int64.
        codes: the code that each slot stands for, (slots,) float32; NaN for missing values, and for a category that
            no training row had.
        rest: which slots are for missing values, (r,) int64.
        members: the slots that each of those stands beside, (slots, r) float32 of 0 and 1.
    """

    fitted: tuple[FittedColumn, ...]
    layout: Layout
    numbers: Tensor
    mean: Tensor
    constant: Tensor | None
    hidden: Tensor
    owner: Tensor
    codes: Tensor
    rest: Tensor
    members: Tensor

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(one.column for one in self.fitted)

    @property
    def numeric(self) -> Tensor:
        """(features,) bool: which features are numbers."""
        return torch.arange(self.layout.features, device=self.owner.device) < len(self.layout.numbers)

    def spread(self, rows: Tensor) -> Tensor:
        """(n, width) raw, NaN where missing -> (n, features), finite wherever the rows are not infinite."""
        values = rows if self.layout.plain else rows.index_select(1, self.numbers)  # (n, m)
        missing = values.isnan()
        filled = torch.where(missing if self.constant is None else missing | self.constant, self.mean, values)
        if self.layout.plain:
            return filled
        gone = missing[:, len(self.layout.numbers) - self.layout.sometimes :].to(rows.dtype)
        return torch.cat([filled, gone, self._one_hot(rows)], dim=1)

    def gather(self, features: Tensor, *, shares: bool = False) -> Tensor:
        """(n, features), categories and indicators as logits or as `shares` -> (n, width) raw, NaN where missing."""
        if self.layout.plain:
            return features
        m, always = len(self.layout.numbers), len(self.layout.numbers) - self.layout.sometimes
        rows = features.new_empty(len(features), self.layout.width)
        values = features[:, :m].clone()
        missing = features[:, m : self.layout.first_slot] > (0.5 if shares else 0.0)  # (n, sometimes)
        values[:, always:].masked_fill_(missing, torch.nan)
        rows[:, self.numbers] = values
        for slots in self.layout.categories:
            code = features[:, slots.start : slots.stop].argmax(dim=1)  # (n,)
            unknown = (code == slots.count - 1) & slots.rest
            rows[:, slots.column] = code.to(rows.dtype).masked_fill(unknown, torch.nan)
        return rows

    def with_categories(self, numbers: Tensor, others: Tensor) -> Tensor:
        """The numbers of one (n, features), all of them there, with the categories of another."""
        m = len(self.layout.numbers)
        there = numbers.new_zeros(len(numbers), self.layout.sometimes)
        return torch.cat([numbers[:, :m], there, others[:, self.layout.first_slot :]], dim=1)

    def to(self, device: torch.device) -> "Table":
        tensors = {name: getattr(self, name) for name in _TENSORS}
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return dataclasses.replace(self, **moved)

    def _one_hot(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, slots) of 0 and 1."""
        hot = (rows.index_select(1, self.owner[self.layout.first_slot :]) == self.codes).to(rows.dtype)  # (n, slots)
        if len(self.rest):
            hot[:, self.rest] = 1 - hot @ self.members.to(rows.dtype)  # (n, slots) -> (n, r)
        return hot


def build_table(fitted: tuple[FittedColumn, ...]) -> Table:
    """The tensors of fitted columns, on the CPU."""
    layout = lay_out(fitted)
    numbers = [fitted[number] for number in layout.numbers]
    constant = torch.tensor([one.low == one.high for one in numbers], dtype=torch.bool)
    owner = torch.tensor(layout.owners, dtype=torch.int64)
    rest = torch.tensor([slots.stop - 1 for slots in layout.categories if slots.rest], dtype=torch.int64)
    owner_of_slot = owner[layout.first_slot :]
    return Table(
        fitted,
        layout,
        numbers=torch.tensor(layout.numbers, dtype=torch.int64),
        mean=torch.tensor([one.mean for one in numbers], dtype=torch.float32),
        constant=constant if bool(constant.any()) else None,
        hidden=_hidden(layout, fitted),
        owner=owner,
        codes=torch.tensor(_codes(layout, fitted), dtype=torch.float32),
        rest=rest - layout.first_slot,
        members=(owner_of_slot[:, None] == owner[rest]).float(),  # (slots, r)
    )


def _codes(layout: Layout, fitted: tuple[FittedColumn, ...]) -> list[float]:
    """Of each slot, in order."""
    codes: list[float] = []
    for slots in layout.categories:
        counts = fitted[slots.column].counts
        codes += [float(code) if count else torch.nan for code, count in enumerate(counts)]
        codes += [torch.nan] * slots.rest
    return codes


def _hidden(layout: Layout, fitted: tuple[FittedColumn, ...]) -> Tensor:
    """A number is its mean and is missing, or NaN; a category is in the slot for missing ones, or in none."""
    always = len(layout.numbers) - layout.sometimes
    hidden = torch.zeros(layout.features)
    hidden[:always] = torch.nan
    hidden[always : len(layout.numbers)] = torch.tensor([fitted[number].mean for number in layout.numbers[always:]])
    hidden[len(layout.numbers) : layout.first_slot] = 1
    hidden[[slots.stop - 1 for slots in layout.categories if slots.rest]] = 1
    return hidden
