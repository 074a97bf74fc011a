"""Bring columns to one scale: fitted on training rows only, carried inside the encoder artifact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.columns import Column, FittedColumn
from training.errors import DataError
from training.steady import whole_vectors
from training.table import Table, build_table

__all__ = ["Preprocessor", "ScaleKind", "build_preprocessor", "fit_preprocessor"]

ScaleKind = Literal["center", "range", "column-range", "standard", "none"]
_BLOCK = 16_384
_TOGETHER = {"center", "range"}
_AROUND_MEAN = {"center", "standard"}
_NAMES = ("offset", "factor", "low", "high")


@dataclass(frozen=True)
class Preprocessor:
    """The affine map `(features - offset) * factor`, and the bounds of what it was fitted on.

    The tensors are float32 of shape (features,). A constant column has factor 1. Without a table the features are
    the raw columns; a table says how they are made of them, its categories and indicators 0 or 1 and not scaled.
    """

    kind: ScaleKind
    offset: Tensor
    factor: Tensor
    low: Tensor
    high: Tensor
    table: Table | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns; none where rows are arrays or pictures."""
        return self.table.columns if self.table else ()

    @property
    def width(self) -> int:
        """How many columns a raw row has."""
        return self.table.layout.width if self.table else len(self.offset)

    @property
    def features(self) -> int:
        """How many values a preprocessed row has."""
        return len(self.offset)

    @property
    def mixed(self) -> bool:
        """Is there more to a row than numbers that were always there?"""
        return self.table is not None and not self.table.layout.plain

    def apply(self, rows: Tensor) -> Tensor:
        """(n, width) raw float32, in a table NaN where missing -> (n, features) preprocessed."""
        return ((self.table.spread(rows) if self.table else rows) - self.offset) * self.factor

    def invert(self, rows: Tensor, *, shares: bool = False) -> Tensor:
        """(n, features) decoded, or preprocessed as they are -> (n, width) in the raw unit.

        Of a category's features the greatest tells the code; a value is NaN where that is the one for missing
        values, or where its indicator is above 0; above a half, where these are `shares` and not logits.
        """
        raw = rows / self.factor + self.offset
        return self.table.gather(raw, shares=shares) if self.table else raw

    def decode(self, output: Tensor, *, logits: bool) -> Tensor:
        """(n, features) as a decoder gives it -> (n, width) in the raw unit; of `logits`, see `answered`."""
        return self.invert(self.answered(output, logits=logits))

    def answered(self, output: Tensor, *, logits: bool) -> Tensor:
        """(n, features) as a decoder gives it -> (n, features), numbers as `apply` gives them.

        With `logits` a number is given as the logit of its share of the range from `low` to `high`.
        """
        if not logits:
            return output
        if self.table is None:
            low, high = self.low.to(output.dtype), self.high.to(output.dtype)
            return _between(low, high, output)
        count = len(self.table.layout.numbers)
        numbers = _between(self.low[:count], self.high[:count], output[:, :count])  # (n, numbers)
        return torch.cat([numbers, output[:, count:]], dim=1)

    @property
    def noise_unit(self) -> Tensor:
        """(features,): the range of a column, or where columns were standardised, one standard deviation.

        Categories and indicators have none: 0.
        """
        unit = torch.ones_like(self.low) if self.kind == "standard" else self.high - self.low
        return unit * self.table.numeric if self.table else unit

    @property
    def hidden(self) -> Tensor:
        """(features,): what stands for a value that is not to be seen: its column's least, or that it is missing."""
        if self.table is None:
            return self.low
        scaled = (self.table.hidden - self.offset) * self.factor
        return torch.where(scaled.isnan(), self.low, scaled)

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name, for writing."""
        return {name: getattr(self, name) for name in _NAMES}

    def to(self, device: torch.device) -> "Preprocessor":
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return Preprocessor(self.kind, **moved, table=self.table.to(device) if self.table else None)


def _between(low: Tensor, high: Tensor, logits: Tensor) -> Tensor:
    share = whole_vectors(torch.sigmoid, logits.contiguous())
    return low * (1 - share) + high * share


def fit_preprocessor(rows: NDArray[np.float32], kind: ScaleKind, columns: tuple[Column, ...] = ()) -> Preprocessor:
    """Fit on training rows.

    Args:
        rows: (n, width) float32, finite, n >= 1; of a table, NaN where a value is missing.
        kind: "center" gives each column mean 0 and all of them together standard deviation 1 (for
            pixels, whose unit is one); "range" maps all columns together to [0, 1]; "column-range"
            each by itself; "standard" gives each mean 0 and standard deviation 1; "none" leaves them.
            Of a table, it is the numbers that are scaled.
        columns: the table's columns, (width,); none where the rows are of an array.

    Raises:
        DataError: a column of numbers has none; it is named.
    """
    if columns:
        return build_preprocessor(kind, _fit_columns(rows, kind, columns))
    offset, factor, low, high = _fit_numbers(rows, kind)
    return Preprocessor(kind, offset, factor, *_bounds(kind, offset, factor, low, high))


def build_preprocessor(kind: ScaleKind, fitted: tuple[FittedColumn, ...]) -> Preprocessor:
    """Of fitted columns, on the CPU: the features' tensors, with offset 0 and factor 1 for all but numbers."""
    table = build_table(fitted)
    numbers = [fitted[number] for number in table.layout.numbers]
    offset, factor = (torch.tensor([getattr(one, name) for one in numbers]) for name in ("offset", "factor"))
    edges = (np.array([getattr(one, name) for one in numbers], np.float64) for name in ("low", "high"))
    low, high = _bounds(kind, offset, factor, *edges)
    others = torch.zeros(table.layout.features - len(numbers))
    pairs = ((offset, others), (factor, others + 1), (low, others), (high, others + 1))
    tensors = {name: torch.cat(pair) for name, pair in zip(_NAMES, pairs, strict=True)}
    return Preprocessor(kind, **tensors, table=table)


def _fit_columns(rows: NDArray[np.float32], kind: ScaleKind, columns: tuple[Column, ...]) -> tuple[FittedColumn, ...]:
    missing = sum(np.isnan(rows[start : start + _BLOCK]).sum(axis=0) for start in range(0, len(rows), _BLOCK))
    fitted = [FittedColumn(column, int(count)) for column, count in zip(columns, missing, strict=True)]
    numeric = [number for number, column in enumerate(columns) if column.kind == "numeric"]
    for number in numeric:
        if fitted[number].missing == len(rows):
            raise DataError(
                f"column {columns[number].name}",
                expected="a value in one of the training rows at least",
                found="none",
                remedy="Remove the column.",
            )
    for number, one in zip(numeric, _numbers(rows, kind, numeric), strict=True):
        fitted[number] = FittedColumn(columns[number], fitted[number].missing, (), *one)
    for number, column in enumerate(columns):
        if column.kind != "numeric":
            codes = rows[:, number]
            counts = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(column.values))
            fitted[number] = FittedColumn(column, fitted[number].missing, tuple(counts.tolist()))
    return tuple(fitted)


def _numbers(rows: NDArray[np.float32], kind: ScaleKind, numeric: Sequence[int]) -> list[list[float]]:
    """Offset, factor, low, high and mean of each of those columns, as float32 holds them."""
    if not numeric:
        return []
    values = rows if len(numeric) == rows.shape[1] else rows[:, numeric]  # (n, m)
    offset, factor, low, high = _fit_numbers(values, kind)
    mean = offset.numpy() if kind in _AROUND_MEAN else _mean_and_deviation(values)[0].astype(np.float32)
    told: list[list[float]] = np.stack([offset.numpy(), factor.numpy(), low, high, mean], axis=1).tolist()
    return told


def _fit_numbers(
    rows: NDArray[np.float32], kind: ScaleKind
) -> tuple[Tensor, Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Offset and factor, (width,) float32, and each column's least and greatest value; NaN is passed over."""
    width = rows.shape[1]
    own = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    gaps = np.flatnonzero(np.isnan(own[0]))
    for edge, least_or_most in zip(own, (np.fmin, np.fmax), strict=True):
        edge[gaps] = least_or_most.reduce(rows[:, gaps])
    low, high = _together(kind, *own)
    offset, spread = np.zeros(width), np.ones(width)
    if kind in {"range", "column-range"}:
        offset, spread = low, high - low
    if kind in _AROUND_MEAN:
        offset, spread = _mean_and_deviation(rows)
    if kind == "center":
        spread = np.full(width, np.sqrt(np.mean(spread**2)))
    constant = (low == high) | (spread < np.finfo(np.float32).tiny)
    return _tensor(offset), _tensor(1.0 / np.where(constant, 1.0, spread)), *own


def _bounds(
    kind: ScaleKind, offset: Tensor, factor: Tensor, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """The preprocessed least and greatest values; rounded as the rows are, so that none lies outside."""
    least, most = ((_tensor(edge) - offset) * factor for edge in _together(kind, low, high))
    return least, most


def _together(
    kind: ScaleKind, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The bounds of each column, or where all are scaled as one, of all of them."""
    if kind not in _TOGETHER or not len(low):
        return low, high
    return np.full_like(low, low.min()), np.full_like(high, high.max())


def _mean_and_deviation(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column, in float64 and in blocks, so that no second copy of the rows is made; NaN is passed over."""
    from sklearn.preprocessing import StandardScaler

    gaps = np.flatnonzero(np.isnan(rows.min(axis=0)))
    scaler = StandardScaler()
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        block[:, gaps] = 0
        scaler.partial_fit(block)
    mean, deviation = scaler.mean_, np.sqrt(scaler.var_)
    for column in gaps:
        values = rows[:, column].astype(np.float64)
        mean[column], deviation[column] = np.nanmean(values), np.nanstd(values)
    return mean, deviation


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
