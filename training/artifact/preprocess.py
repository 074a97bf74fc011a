"""Scales columns: fitted on training rows only, stored in the encoder artifact."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lookalike.training.array_types import Floats, Integers
from lookalike.training.artifact.known_range import Clipped, Ids, clipped_at, known_range
from lookalike.training.artifact.normalizer import Normalizer, normalizer_of
from lookalike.training.artifact.scales import (
    AROUND_MEAN,
    BLOCK,
    bounds_of,
    fit_channels,
    fit_numbers,
    mean_and_deviation,
)
from lookalike.training.artifact.steady import whole_vectors
from lookalike.training.choices import ScaleKind
from lookalike.training.errors import DataError
from lookalike.training.tables.columns import Column, FittedColumn
from lookalike.training.tables.features import Table, build_table
from lookalike.training.tables.origin import Origin
from lookalike.training.transforms import WindowTransform

__all__ = ["Preprocessor", "build_preprocessor", "fit_preprocessor"]

_NAMES = ("offset", "factor", "low", "high")


@dataclass(frozen=True)
class Preprocessor:
    """The affine map `(features - offset) * factor`, and the bounds of the rows that it was fitted on.

    The tensors are float32 of shape (features,). A constant column has factor 1. Without a table the features are the
    raw columns. A table converts raw columns to features; its categories and indicators are 0 or 1 and not scaled.
    A normalizer converts each raw window to features by its own mean and deviation, before all windows are scaled.
    Raw rows are minus `origin` (training.tables.origin), which is subtracted before they become float32.
    """

    kind: ScaleKind
    offset: Tensor
    factor: Tensor
    low: Tensor
    high: Tensor
    table: Table | None = None
    origin: Origin = None
    normalizer: Normalizer | None = None
    _known: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)
    """(features,) each, raw: the known range."""

    def __post_init__(self) -> None:
        edges = (edge.double() / self.factor.double() + self.offset.double() for edge in (self.low, self.high))
        object.__setattr__(self, "_known", known_range(*edges))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns; empty if rows are arrays or pictures."""
        return self.table.columns if self.table else ()

    @property
    def width(self) -> int:
        """The number of columns of a raw row."""
        return self.table.layout.width if self.table else len(self.offset)

    @property
    def features(self) -> int:
        """The number of values of a preprocessed row."""
        return len(self.offset)

    @property
    def values(self) -> int:
        """The number of values of a preprocessed row, without those that say that a value is missing."""
        return self.features - (len(self.table.layout.numbers + self.table.layout.categories) if self.table else 0)

    @property
    def base(self) -> Tensor:
        """(features,): what a preprocessed row lacks, in its unit: with it, a picture is not centered."""
        return self.offset * self.factor

    @property
    def mixed(self) -> bool:
        """Whether a preprocessed row has indicators and categories: whether it is a row of a table."""
        return self.table is not None

    def apply(self, rows: Tensor) -> Tensor:
        """(n, width) raw float32, in a table NaN for missing -> (n, features) preprocessed.

        A value outside the known range (`training.artifact.known_range`) counts as the nearest end of that range.
        """
        return (self._features(rows).clamp(*self._known) - self.offset) * self.factor

    def apply_for_training(self, rows: Tensor) -> Tensor:
        """As `apply`, except that a value outside the known range counts as the end of the fitted range.

        So no row has a much larger loss or gradient than the others.
        """
        features, scaled = self._features(rows), self.apply(rows)
        for outside, end in ((features < self._known[0], self.low), (features > self._known[1], self.high)):
            if bool(outside.any()):
                scaled = torch.where(outside, end, scaled)
        return scaled

    def _features(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, features), raw; windows are normalized."""
        if self.normalizer:
            return self.normalizer(rows)
        return self.table.to_features(rows) if self.table else rows

    def outside(self, rows: Floats) -> Integers:
        """(n, width) raw -> (m, 2): the row and the column of each value outside the known range."""
        low, high = self.limits
        return np.argwhere((rows < low) | (rows > high))

    def clipped(self, rows: Floats, ids: Ids) -> Clipped:
        """The values of (n, width) raw rows outside the known range; `ids` identifies the rows."""
        names = [column.name for column in self.columns]
        return clipped_at(rows, self.outside(rows), ids, names=names, limits=self.limits, origin=self.origin)

    @cached_property
    def limits(self) -> tuple[Floats, Floats]:
        """(width,) each: the least and the greatest known value of each raw column.

        A table's categories, and its numbers that never varied in training, have no limits: the encoder does not read
        their values. Windows that are normalized have none either.
        """
        if self.normalizer:
            return np.full(self.width, -np.inf, np.float32), np.full(self.width, np.inf, np.float32)
        known = [edge.cpu().numpy() for edge in self._known]
        if self.table is None:
            return known[0], known[1]
        low, high = np.full(self.width, -np.inf, np.float32), np.full(self.width, np.inf, np.float32)
        numbers, constant = self.table.numbers.cpu().numpy(), self.table.constant
        read = np.arange(len(numbers)) if constant is None else np.flatnonzero(~constant.cpu().numpy())
        low[numbers[read]], high[numbers[read]] = (edge[read] for edge in known)
        return low, high

    def invert(self, rows: Tensor, *, shares: bool = False) -> Tensor:
        """(n, features) decoded or preprocessed -> (n, width) in the raw unit; windows that were normalized stay so.

        The greatest of a category's features determines its code, or NaN if it is the slot for missing values.
        In a table, a number is NaN if its indicator is above 0, or above a half if the indicators are `shares` and not
        logits.
        """
        raw = rows / self.factor + self.offset
        return self.table.to_rows(raw, shares=shares) if self.table else raw

    def decode(self, output: Tensor, *, logits: bool) -> Tensor:
        """(n, features) from a decoder -> (n, width) in the raw unit; for `logits`, see `output_features`."""
        return self.invert(self.output_features(output, logits=logits))

    def output_features(self, output: Tensor, *, logits: bool) -> Tensor:
        """(n, features) from a decoder -> (n, features), numbers in the unit of `apply`.

        With `logits` a number is the logit of its share of the range from `low` to `high`.
        """
        if not logits:
            return output
        if self.table is None:
            return _between(self.low.to(output.dtype), self.high.to(output.dtype), output)
        count = len(self.table.layout.numbers)
        numbers = _between(self.low[:count], self.high[:count], output[:, :count])  # (n, numbers)
        return torch.cat([numbers, output[:, count:]], dim=1)

    def differences(self, output: Tensor, features: Tensor, *, logits: bool) -> tuple[Tensor, Tensor | float]:
        """The differences of a decoder's output from preprocessed rows, (n, features) each, in the unit of `apply`.

        Returns them, 0 for columns whose value is missing, and the root of the number of known features: (n, 1), or for
        all rows one number.
        """
        output = self.output_features(output, logits=logits)
        if self.table is None:
            return output - features, math.sqrt(self.features)
        m, last = len(self.table.layout.numbers), self.table.layout.first_slot
        indicators = whole_vectors(torch.sigmoid, output[:, m:last].contiguous())  # (n, m)
        output = torch.cat([output[:, :m], indicators, output[:, last:]], dim=1)
        known = self.table.present(features)  # (n, features)
        return (output - features) * known, known.sum(dim=1, keepdim=True).clamp_min(1).sqrt()

    @property
    def noise_unit(self) -> Tensor:
        """(features,): the range of a column, or if columns are standardized, one standard deviation.

        It is 0 for categories and indicators, which have no noise.
        """
        unit = torch.ones_like(self.low) if self.kind in {"standard", "channel"} else self.high - self.low
        return unit * self.table.numeric if self.table else unit

    @property
    def masked(self) -> Tensor:
        """(features,): the replacement for a masked value: the column's least, or a missing value."""
        if self.table is None:
            return self.low
        return (self.table.masked - self.offset) * self.factor

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return {name: getattr(self, name) for name in _NAMES}

    def to(self, device: torch.device) -> "Preprocessor":
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        table = self.table.to(device) if self.table else None
        return Preprocessor(self.kind, **moved, table=table, origin=self.origin, normalizer=self.normalizer)


def _between(low: Tensor, high: Tensor, logits: Tensor) -> Tensor:
    """(n, features): the values whose shares of the range, (features,) each, have these logits."""
    share = whole_vectors(torch.sigmoid, logits.contiguous())
    return share * (high - low) + low


def fit_preprocessor(
    rows: Floats,
    kind: ScaleKind,
    columns: tuple[Column, ...] = (),
    origin: Origin = None,
    *,
    windows: WindowTransform | None = None,
) -> Preprocessor:
    """Fit a preprocessor to training rows.

    Args:
        rows: (n, width) float32, finite, n >= 1; in a table, NaN if a value is missing.
        kind: "center" scales each column to mean 0 and all of them together to standard deviation 1 (for pixels, which
            have one unit); "range" maps all columns together to [0, 1]; "column-range" maps each column to [0, 1];
            "standard" scales each column to mean 0 and standard deviation 1; "channel" does the same, in windows with
            all samples of a channel together; "none" does not scale. In a table, only numbers are scaled.
        columns: the table's columns, (width,); empty if the rows are from an array. Raises DataError for a column of
            numbers without any value.
        origin: the values that were subtracted from the rows.
        windows: the transform of recordings to these rows; windows are first normalized as it requires.
    """
    if columns:
        described = _fit_columns(rows, kind, columns)
        if origin is not None:
            described = tuple(replace(one, origin=float(value)) for one, value in zip(described, origin, strict=True))
        return build_preprocessor(kind, described)
    normalizer = normalizer_of(windows)
    rows = normalizer.each_block(rows) if normalizer else rows
    fitted = fit_channels(rows, windows) if windows and kind == "channel" else fit_numbers(rows, kind)
    offset, factor, low, high, _ = fitted
    bounds = bounds_of(kind, offset, factor, low, high)
    return Preprocessor(kind, offset, factor, *bounds, origin=origin, normalizer=normalizer)


def build_preprocessor(kind: ScaleKind, fitted: tuple[FittedColumn, ...]) -> Preprocessor:
    """Build a preprocessor from fitted columns, on the CPU; all features but numbers have offset 0 and factor 1."""
    table = build_table(fitted)
    numbers = [fitted[number] for number in table.layout.numbers]
    offset, factor = (torch.tensor([getattr(one, name) for one in numbers]) for name in ("offset", "factor"))
    edges = (np.array([getattr(one, name) for one in numbers], np.float64) for name in ("low", "high"))
    low, high = bounds_of(kind, offset, factor, *edges)
    others = torch.zeros(table.layout.features - len(numbers))
    pairs = ((offset, others), (factor, others + 1), (low, others), (high, others + 1))
    tensors = {name: torch.cat(pair) for name, pair in zip(_NAMES, pairs, strict=True)}
    origin = np.array([one.origin for one in fitted])
    origin_or_none = origin if origin.any() else None
    return Preprocessor(kind, **tensors, table=table, origin=origin_or_none, normalizer=None)


def _fit_columns(rows: Floats, kind: ScaleKind, columns: tuple[Column, ...]) -> tuple[FittedColumn, ...]:
    missing = sum(np.isnan(rows[start : start + BLOCK]).sum(axis=0) for start in range(0, len(rows), BLOCK))
    fitted = [FittedColumn(column, int(count)) for column, count in zip(columns, missing, strict=True)]
    numeric = [number for number, column in enumerate(columns) if column.kind == "numeric"]
    for number in numeric:
        if fitted[number].missing == len(rows):
            place, expected = f"column {columns[number].name}", "a value in at least one training row"
            raise DataError(place, expected=expected, found="only missing values", remedy="Remove the column.")
    for number, one in zip(numeric, _numbers(rows, kind, numeric), strict=True):
        fitted[number] = FittedColumn(columns[number], fitted[number].missing, (), *one)
    for number, column in enumerate(columns):
        if column.kind != "numeric":
            codes = rows[:, number]
            counts = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(column.values))
            fitted[number] = FittedColumn(column, fitted[number].missing, tuple(counts.tolist()))
    return tuple(fitted)


def _numbers(rows: Floats, kind: ScaleKind, numeric: Sequence[int]) -> list[list[float]]:
    """Offset, factor, low, high and mean of each column in `numeric`, as float32 holds them."""
    if not numeric:
        return []
    values = rows if len(numeric) == rows.shape[1] else rows[:, numeric]  # (n, m)
    offset, factor, low, high, far = fit_numbers(values, kind)
    mean = offset.numpy() if kind in AROUND_MEAN else mean_and_deviation(values, far)[0].astype(np.float32)
    fitted: list[list[float]] = np.stack([offset.numpy(), factor.numpy(), low, high, mean], axis=1).tolist()
    return fitted
