"""Bring columns to one scale: fitted on training rows only, carried inside the encoder artifact."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike.training.artifact.known_range import Clipped, Ids, clipped_at, far_rows, known_range
from lookalike.training.artifact.steady import whole_vectors
from lookalike.training.choices import ScaleKind
from lookalike.training.errors import DataError
from lookalike.training.tables.columns import Column, FittedColumn
from lookalike.training.tables.features import Table, build_table
from lookalike.training.tables.origin import Origin

__all__ = ["Preprocessor", "build_preprocessor", "fit_preprocessor"]

_BLOCK = 16_384
_TOGETHER = {"center", "range"}
_AROUND_MEAN = {"center", "standard"}
_NAMES = ("offset", "factor", "low", "high")
Far = dict[int, NDArray[np.int64]]
"""Of each column that has values far from all others, in which rows."""


@dataclass(frozen=True)
class Preprocessor:
    """The affine map `(features - offset) * factor`, and the bounds of what it was fitted on.

    The tensors are float32 of shape (features,). A constant column has factor 1. Without a table the features are
    the raw columns; a table says how they are made of them, its categories and indicators 0 or 1 and not scaled.
    Raw rows are less `origin` (training.tables.origin), which is subtracted before they are float32.
    """

    kind: ScaleKind
    offset: Tensor
    factor: Tensor
    low: Tensor
    high: Tensor
    table: Table | None = None
    origin: Origin = None
    _known: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)
    """(features,) each, raw: the range that is known."""

    def __post_init__(self) -> None:
        edges = (edge.double() / self.factor.double() + self.offset.double() for edge in (self.low, self.high))
        object.__setattr__(self, "_known", known_range(*edges))

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
        """(n, width) raw float32, in a table NaN where missing -> (n, features) preprocessed.

        A value outside the range that is known (`training.artifact.known_range`) counts as the end of that range.
        """
        return (self._features(rows).clamp(*self._known) - self.offset) * self.factor

    def apply_for_training(self, rows: Tensor) -> Tensor:
        """As `apply`, except that a value outside the range that is known counts as the end of the fitted range.

        So no row has a loss, or a gradient, of another size than the others.
        """
        features, scaled = self._features(rows), self.apply(rows)
        for outside, end in ((features < self._known[0], self.low), (features > self._known[1], self.high)):
            if bool(outside.any()):
                scaled = torch.where(outside, end, scaled)
        return scaled

    def _features(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, features), raw."""
        return self.table.spread(rows) if self.table else rows

    def outside(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """(n, width) raw -> (m, 2): the row and the column of each value outside the range that is known."""
        low, high = self.limits
        return np.argwhere((rows < low) | (rows > high))

    def clipped(self, rows: NDArray[np.float32], ids: Ids) -> Clipped:
        """The values of (n, width) raw rows outside the range that is known; `ids` names the rows."""
        names = [column.name for column in self.columns]
        return clipped_at(rows, self.outside(rows), ids, names=names, limits=self.limits, origin=self.origin)

    @cached_property
    def limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(width,) each: the least and the greatest value that is known of each raw column.

        Of a table's categories, and of its numbers that never differed in training, all are known: of these the
        encoder does not read the value.
        """
        known = [edge.cpu().numpy() for edge in self._known]
        if self.table is None:
            return known[0], known[1]
        low, high = np.full(self.width, -np.inf, np.float32), np.full(self.width, np.inf, np.float32)
        numbers, constant = self.table.numbers.cpu().numpy(), self.table.constant
        read = np.arange(len(numbers)) if constant is None else np.flatnonzero(~constant.cpu().numpy())
        low[numbers[read]], high[numbers[read]] = (edge[read] for edge in known)
        return low, high

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
        return Preprocessor(self.kind, **moved, table=self.table.to(device) if self.table else None, origin=self.origin)


def _between(low: Tensor, high: Tensor, logits: Tensor) -> Tensor:
    """(n, features): the values whose shares of the range, (features,) each, have these logits."""
    share = whole_vectors(torch.sigmoid, logits.contiguous())
    return share * (high - low) + low


def fit_preprocessor(
    rows: NDArray[np.float32], kind: ScaleKind, columns: tuple[Column, ...] = (), origin: Origin = None
) -> Preprocessor:
    """Fit on training rows.

    Args:
        rows: (n, width) float32, finite, n >= 1; of a table, NaN where a value is missing.
        kind: "center" gives each column mean 0 and all of them together standard deviation 1 (for
            pixels, whose unit is one); "range" maps all columns together to [0, 1]; "column-range"
            each by itself; "standard" gives each mean 0 and standard deviation 1; "none" leaves them.
            Of a table, it is the numbers that are scaled.
        columns: the table's columns, (width,); none where the rows are of an array.
        origin: what was subtracted from the rows.

    Raises:
        DataError: a column of numbers has none; it is named.
    """
    if columns:
        fitted = _fit_columns(rows, kind, columns)
        if origin is not None:
            fitted = tuple(replace(one, origin=float(own)) for one, own in zip(fitted, origin, strict=True))
        return build_preprocessor(kind, fitted)
    offset, factor, low, high, _ = _fit_numbers(rows, kind)
    return Preprocessor(kind, offset, factor, *_bounds(kind, offset, factor, low, high), origin=origin)


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
    origin = np.array([one.origin for one in fitted])
    return Preprocessor(kind, **tensors, table=table, origin=origin if origin.any() else None)


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
    offset, factor, low, high, far = _fit_numbers(values, kind)
    mean = offset.numpy() if kind in _AROUND_MEAN else _mean_and_deviation(values, far)[0].astype(np.float32)
    told: list[list[float]] = np.stack([offset.numpy(), factor.numpy(), low, high, mean], axis=1).tolist()
    return told


def _fit_numbers(
    rows: NDArray[np.float32], kind: ScaleKind
) -> tuple[Tensor, Tensor, NDArray[np.float64], NDArray[np.float64], Far]:
    """Offset and factor, (width,) float32, each column's least and greatest value, and which values are far.

    NaN is passed over, and so are the few values that are far from all others: one of them would take the whole scale.
    """
    width = rows.shape[1]
    own = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    gaps = np.flatnonzero(np.isnan(own[0]))
    for edge, least_or_most in zip(own, (np.fmin, np.fmax), strict=True):
        edge[gaps] = least_or_most.reduce(rows[:, gaps])
    far = far_rows(rows, own, together=kind in _TOGETHER)
    for column in far:
        values = _near(rows, column, far)
        own[0][column], own[1][column] = np.nanmin(values), np.nanmax(values)
    low, high = _together(kind, *own)
    offset, spread = np.zeros(width), np.ones(width)
    if kind in {"range", "column-range"}:
        offset, spread = low, high - low
    if kind in _AROUND_MEAN:
        offset, spread = _mean_and_deviation(rows, far)
    if kind == "center":
        spread = np.full(width, np.sqrt(np.mean(spread**2)))
    constant = (low == high) | (spread < np.finfo(np.float32).tiny)
    return _tensor(offset), _tensor(1.0 / np.where(constant, 1.0, spread)), *own, far


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


def _near(rows: NDArray[np.float32], column: int, far: Far) -> NDArray[np.float64]:
    """(n,) the values of a column in float64, NaN if they are missing or far."""
    values = rows[:, column].astype(np.float64)
    values[far.get(column, [])] = np.nan
    return values


def _mean_and_deviation(rows: NDArray[np.float32], far: Far) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column, in float64 and in blocks, so that no second copy of the rows is made; without NaN and `far`."""
    from sklearn.preprocessing import StandardScaler

    gaps = np.union1d(np.flatnonzero(np.isnan(rows.min(axis=0))), [*far]).astype(np.int64)
    scaler = StandardScaler()
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        block[:, gaps] = 0
        scaler.partial_fit(block)
    mean, deviation = scaler.mean_, np.sqrt(scaler.var_)
    for column in gaps:
        values = _near(rows, column, far)
        mean[column], deviation[column] = np.nanmean(values), np.nanstd(values)
    return mean, deviation


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
