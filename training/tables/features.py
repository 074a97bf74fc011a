"""Convert a table's raw rows to features and back: missing values are filled, categories are one-hot.

A missing number becomes its column's mean, and the column's indicator becomes 1. A missing or unknown category sets the
column's slot for missing values. A number that never varied in training carries no information, so the constant
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

_TENSORS = (
    "numbers",
    "mean",
    "constant",
    "masked",
    "owner",
    "group",
    "missing_at",
    "codes",
    "missing_slots",
    "members",
)


@dataclass(frozen=True)
class Table:
    """From raw rows (n, width) to features (n, features) and back; `training.tables.layout` defines their order.

    Attributes:
        numbers: the raw columns of numbers, (m,) int64.
        mean: the replacement for a missing number, raw, (m,) float32.
        constant: which numbers never varied, (m,) bool; None if all varied.
        masked: the raw value of each feature if its column is missing, (features,) float32.
        owner: the raw column of each feature, (features,) int64.
        group: the field of each feature, counted from 0, (features,) int64; several columns may be of one field.
        missing_at: for each feature, the feature that is 1 if its column is missing, (features,) int64.
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
    group: Tensor
    missing_at: Tensor
    codes: Tensor
    missing_slots: Tensor
    members: Tensor

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(one.column for one in self.fitted)

    @property
    def fields(self) -> int:
        """The number of fields of the source that have columns."""
        return len({column.field for column in self.columns})

    @property
    def numeric(self) -> Tensor:
        """(features,) bool: which features are numbers."""
        return torch.arange(self.layout.features, device=self.owner.device) < len(self.layout.numbers)

    def to_features(self, rows: Tensor) -> Tensor:
        """(n, width) raw, NaN for missing -> (n, features), finite unless the rows contain infinity."""
        values = rows.index_select(1, self.numbers)  # (n, m)
        missing = values.isnan()
        filled = torch.where(missing if self.constant is None else missing | self.constant, self.mean, values)
        return torch.cat([filled, missing.to(rows.dtype), self._one_hot(rows)], dim=1)

    def to_rows(self, features: Tensor, *, shares: bool = False) -> Tensor:
        """(n, features), categories and indicators as logits or as `shares` -> (n, width) raw, NaN for missing."""
        m = len(self.layout.numbers)
        rows = features.new_empty(len(features), self.layout.width)
        missing = features[:, m : self.layout.first_slot] > (0.5 if shares else 0.0)  # (n, m)
        rows[:, self.numbers] = features[:, :m].masked_fill(missing, torch.nan)
        for slots in self.layout.categories:
            code = features[:, slots.start : slots.stop].argmax(dim=1)  # (n,)
            rows[:, slots.column] = code.to(rows.dtype).masked_fill(code == slots.count - 1, torch.nan)
        return rows

    def present(self, features: Tensor) -> Tensor:
        """(n, features) of `to_features` -> (n, features): 1 if the value of the feature's column is known, else 0."""
        return 1 - features.index_select(1, self.missing_at)

    def with_categories(self, numbers: Tensor, others: Tensor) -> Tensor:
        """(n, features): `numbers` has the numbers, of which none is missing, and `others` has the categories."""
        m = len(self.layout.numbers)
        present = numbers.new_zeros(len(numbers), m)
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
    missing_slots = torch.tensor([slots.stop - 1 for slots in layout.categories], dtype=torch.int64)
    mean = torch.tensor([one.mean for one in numbers], dtype=torch.float32)
    masked = torch.cat([mean, torch.ones(len(numbers)), torch.zeros(layout.features - layout.first_slot)])
    masked[missing_slots] = 1
    places = {name: place for place, name in enumerate(dict.fromkeys(one.column.field for one in fitted))}
    owner_of_slot = owner[layout.first_slot :]
    return Table(
        fitted,
        layout,
        numbers=torch.tensor(layout.numbers, dtype=torch.int64),
        mean=mean,
        constant=constant if bool(constant.any()) else None,
        masked=masked,
        owner=owner,
        group=torch.tensor([places[fitted[number].column.field] for number in layout.owners], dtype=torch.int64),
        missing_at=torch.tensor(layout.missing_at, dtype=torch.int64),
        codes=torch.tensor(_codes(layout, fitted), dtype=torch.float32),
        missing_slots=missing_slots - layout.first_slot,
        members=(owner_of_slot[:, None] == owner[missing_slots]).float(),  # (slots, r)
    )


def _codes(layout: Layout, fitted: tuple[FittedColumn, ...]) -> list[float]:
    """The code of each slot, in order."""
    codes: list[float] = []
    for slots in layout.categories:
        counts = fitted[slots.column].counts
        codes += [*(float(code) if count else torch.nan for code, count in enumerate(counts)), torch.nan]
    return codes
