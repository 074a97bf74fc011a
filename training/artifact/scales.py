"""The offset and the scale of numbers, fitted to training rows; values that are far from all others do not count."""

import numpy as np
import torch
from torch import Tensor

from lookalike.training.array_types import Doubles, Floats, Integers
from lookalike.training.artifact.known_range import far_rows
from lookalike.training.choices import ScaleKind
from lookalike.training.transforms import WindowTransform

__all__ = ["AROUND_MEAN", "BLOCK", "Far", "Fit", "bounds_of", "fit_channels", "fit_numbers", "mean_and_deviation"]

BLOCK = 16_384
"""Rows that are computed with at once."""
AROUND_MEAN = {"center", "standard", "channel"}
"""The scales whose offset is the mean."""
_TOGETHER = {"center", "range"}
Far = dict[int, Integers]
"""For each column with values far from all others, the rows of these values."""
Fit = tuple[Tensor, Tensor, Doubles, Doubles, Far]


def fit_channels(rows: Floats, windows: WindowTransform) -> Fit:
    """As `fit_numbers`, but the samples of a channel, of all windows together, have one mean and one deviation."""
    offset, factor, low, high, far = fit_numbers(rows.reshape(-1, len(windows.channels)), "channel")
    count = windows.window
    return offset.repeat(count), factor.repeat(count), np.tile(low, count), np.tile(high, count), far


def fit_numbers(rows: Floats, kind: ScaleKind) -> Fit:
    """Offset and factor, (width,) float32, each column's least and greatest value, and which values are far.

    NaN is ignored, and so are the few values that are far from all others: one of them would determine the scale.
    """
    width = rows.shape[1]
    edges = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    with_gaps = np.flatnonzero(np.isnan(edges[0]))
    for edge, least_or_most in zip(edges, (np.fmin, np.fmax), strict=True):
        edge[with_gaps] = least_or_most.reduce(rows[:, with_gaps])
    far = far_rows(rows, edges, together=kind in _TOGETHER)
    for column in far:
        values = _near(rows, column, far)
        edges[0][column], edges[1][column] = np.nanmin(values), np.nanmax(values)
    low, high = _together(kind, *edges)
    offset, spread = np.zeros(width), np.ones(width)
    if kind in {"range", "column-range"}:
        offset, spread = low, high - low
    if kind in AROUND_MEAN:
        offset, spread = mean_and_deviation(rows, far)
    if kind == "center":
        spread = np.full(width, np.sqrt(np.mean(spread**2)))
    constant = (low == high) | (spread < np.finfo(np.float32).tiny)
    return _tensor(offset), _tensor(1.0 / np.where(constant, 1.0, spread)), *edges, far


def bounds_of(kind: ScaleKind, offset: Tensor, factor: Tensor, low: Doubles, high: Doubles) -> tuple[Tensor, Tensor]:
    """The preprocessed least and greatest values; rounded like the rows, so that no training row is outside."""
    least, most = ((_tensor(edge) - offset) * factor for edge in _together(kind, low, high))
    return least, most


def _together(kind: ScaleKind, low: Doubles, high: Doubles) -> tuple[Doubles, Doubles]:
    """The bounds of each column, or if all are scaled as one, of all columns together."""
    if kind not in _TOGETHER or not len(low):
        return low, high
    return np.full_like(low, low.min()), np.full_like(high, high.max())


def _near(rows: Floats, column: int, far: Far) -> Doubles:
    """(n,) the values of a column in float64, NaN if they are missing or far."""
    values = rows[:, column].astype(np.float64)
    values[far.get(column, [])] = np.nan
    return values


def mean_and_deviation(rows: Floats, far: Far) -> tuple[Doubles, Doubles]:
    """The mean and the deviation of each column without NaN and `far`, in float64 and in blocks, to save memory."""
    from sklearn.preprocessing import StandardScaler

    with_gaps = np.union1d(np.flatnonzero(np.isnan(rows.min(axis=0))), [*far]).astype(np.int64)
    scaler = StandardScaler()
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].astype(np.float64)
        block[:, with_gaps] = 0
        scaler.partial_fit(block)
    mean, deviation = scaler.mean_, np.sqrt(scaler.var_)
    for column in with_gaps:
        values = _near(rows, column, far)
        mean[column], deviation[column] = np.nanmean(values), np.nanstd(values)
    return mean, deviation


def _tensor(values: Doubles) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
