"""Converts a table's raw rows to features and back: missing values are filled, categories are one-hot.

A missing number becomes its column's mean, and the column's indicator, if any, becomes 1. A missing or unknown category
sets the column's slot for missing values. Without such a slot no slot is set: a slot that no training row ever set
would still have its initial weights. A number that never varied in training carries no information, so the constant
replaces its value.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lookalike.training.tables.columns import Column, FittedColumn
from lookalike.training.tables.layout import Layout, lay_out

__all__ = ["Table", "build_table"]

_TENSORS = ("numbers", "mean", "constant", "masked", "owner", "codes", "missing_slots", "members")


@dataclass(frozen=True)
class Table:
    """From raw rows (n, width) to features (n, features) and back; `training.tables.layout` defines their order.

    Attributes:
        numbers: the raw columns of numbers, (m,) int64.
        mean: the replacement for a missing number, raw, (m,) float32.
        constant: which numbers never varied, (m,) bool; None if all varied.
        masked: the raw value of each feature if its column is masked; NaN for a number without an indicator.
        owner: the raw column of each feature, (features,) int64.
        codes: the code of each slot, (slots,) float32; NaN for missing values, and for a category that no training
            row had.
        missing_slots: the slots for missing values, (r,) int64.
        members: the slots of the same column as each slot in `missing_slots`, (slots, r) float32 of 0 and 1.
    """

    fitted: tuple[FittedColumn, ...]
    layout: Layout
    numbers: Tensor
    mean: Tensor
    constant: Tensor | None
    masked: Tensor
    owner: Tensor
    codes: Tensor
    missing_slots: Tensor
    members: Tensor

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(one.column for one in self.fitted)

    @property
    def numeric(self) -> Tensor:
        """(features,) bool: which features are numbers."""
        return torch.arange(self.layout.features, device=self.owner.device) < len(self.layout.numbers)

    def to_features(self, rows: Tensor) -> Tensor:
        """(n, width) raw, NaN for missing -> (n, features), finite unless the rows contain infinity."""
        values = rows if self.layout.numbers_only else rows.index_select(1, self.numbers)  # (n, m)
        missing = values.isnan()
        filled = torch.where(missing if self.constant is None else missing | self.constant, self.mean, values)
        if self.layout.numbers_only:
            return filled
        indicators = missing[:, len(self.layout.numbers) - self.layout.indicators :].to(rows.dtype)
        return torch.cat([filled, indicators, self._one_hot(rows)], dim=1)

    def to_rows(self, features: Tensor, *, shares: bool = False) -> Tensor:
        """(n, features), categories and indicators as logits or as `shares` -> (n, width) raw, NaN for missing."""
        if self.layout.numbers_only:
            return features
        m, always = len(self.layout.numbers), len(self.layout.numbers) - self.layout.indicators
        rows = features.new_empty(len(features), self.layout.width)
        values = features[:, :m].clone()
        missing = features[:, m : self.layout.first_slot] > (0.5 if shares else 0.0)  # (n, indicators)
        values[:, always:].masked_fill_(missing, torch.nan)
        rows[:, self.numbers] = values
        for slots in self.layout.categories:
            code = features[:, slots.start : slots.stop].argmax(dim=1)  # (n,)
            unknown = (code == slots.count - 1) & slots.has_missing
            rows[:, slots.column] = code.to(rows.dtype).masked_fill(unknown, torch.nan)
        return rows

    def with_categories(self, numbers: Tensor, others: Tensor) -> Tensor:
        """(n, features): the numbers of the first argument, none of them missing, with the categories of the second."""
        m = len(self.layout.numbers)
        present = numbers.new_zeros(len(numbers), self.layout.indicators)
        return torch.cat([numbers[:, :m], present, others[:, self.layout.first_slot :]], dim=1)

    def to(self, device: torch.device) -> "Table":
        tensors = {name: getattr(self, name) for name in _TENSORS}
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return dataclasses.replace(self, **moved)

    def _one_hot(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, slots) of 0 and 1."""
        hot = (rows.index_select(1, self.owner[self.layout.first_slot :]) == self.codes).to(rows.dtype)  # (n, slots)
        if len(self.missing_slots):
            hot[:, self.missing_slots] = 1 - hot @ self.members.to(rows.dtype)  # (n, slots) -> (n, r)
        return hot


def build_table(fitted: tuple[FittedColumn, ...]) -> Table:
    """Build the tensors of fitted columns, on the CPU."""
    layout = lay_out(fitted)
    numbers = [fitted[number] for number in layout.numbers]
    constant = torch.tensor([one.low == one.high for one in numbers], dtype=torch.bool)
    owner = torch.tensor(layout.owners, dtype=torch.int64)
    missing_slots = torch.tensor(
        [slots.stop - 1 for slots in layout.categories if slots.has_missing], dtype=torch.int64
    )
    owner_of_slot = owner[layout.first_slot :]
    return Table(
        fitted,
        layout,
        numbers=torch.tensor(layout.numbers, dtype=torch.int64),
        mean=torch.tensor([one.mean for one in numbers], dtype=torch.float32),
        constant=constant if bool(constant.any()) else None,
        masked=_masked(layout, fitted),
        owner=owner,
        codes=torch.tensor(_codes(layout, fitted), dtype=torch.float32),
        missing_slots=missing_slots - layout.first_slot,
        members=(owner_of_slot[:, None] == owner[missing_slots]).float(),  # (slots, r)
    )


def _codes(layout: Layout, fitted: tuple[FittedColumn, ...]) -> list[float]:
    """The code of each slot, in order."""
    codes: list[float] = []
    for slots in layout.categories:
        counts = fitted[slots.column].counts
        codes += [float(code) if count else torch.nan for code, count in enumerate(counts)]
        codes += [torch.nan] * slots.has_missing
    return codes


def _masked(layout: Layout, fitted: tuple[FittedColumn, ...]) -> Tensor:
    """The features of a masked row: a number is its mean and missing, or NaN; a category is missing, or has no slot."""
    always = len(layout.numbers) - layout.indicators
    masked = torch.zeros(layout.features)
    masked[:always] = torch.nan
    masked[always : len(layout.numbers)] = torch.tensor([fitted[number].mean for number in layout.numbers[always:]])
    masked[len(layout.numbers) : layout.first_slot] = 1
    masked[[slots.stop - 1 for slots in layout.categories if slots.has_missing]] = 1
    return masked
