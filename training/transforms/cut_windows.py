"""Cut windows from the samples of a recording at one rate: their starts, which are usable, and their names in ids.

A window with missing samples is usable if in each channel the share of missing samples is at most `max_missing`, which
is below 1. Missing samples are filled by linear interpolation between the samples of the window; before the first
sample and after the last sample, the nearest sample is repeated. No sample outside a window changes the window, so a
window of a file and the same window in a request become the same row.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lookalike.training.array_types import Booleans, Integers
from lookalike.training.transforms.window import WindowTransform

__all__ = ["cut", "decimals", "filled", "start_text", "starts_of", "usable"]

MICROSECONDS = 1e5
"""Up to this many samples per second, six decimals of a second name each sample."""


def starts_of(count: int, transform: WindowTransform) -> Integers:
    """Return where the windows of `count` samples start: (m,), every `hop` samples, as long as a window fits."""
    return np.arange(0, count - transform.window + 1, transform.hop)


def usable(samples: NDArray[np.floating], starts: Integers, transform: WindowTransform) -> Booleans:
    """Return which windows have enough samples: (n, channels), NaN if missing, and (m,) starts -> (m,)."""
    missing = np.isnan(samples)
    if not missing.any():
        return np.ones(len(starts), np.bool_)
    before = np.zeros((len(samples) + 1, samples.shape[1]), np.int64)
    np.cumsum(missing, axis=0, out=before[1:])
    counts = before[starts + transform.window] - before[starts]  # (m, channels)
    enough: Booleans = np.all(counts <= transform.max_missing * transform.window, axis=1)
    return enough


def cut(samples: NDArray[Any], starts: Integers, window: int) -> NDArray[Any]:
    """(n, channels) samples and (m,) starts -> a copy of the windows, (m, window, channels)."""
    views = sliding_window_view(samples, window, axis=0)[starts]  # (m, channels, window)
    return np.ascontiguousarray(views.transpose(0, 2, 1))


def filled(windows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Fill the missing samples of usable windows, (m, window, channels), in place; see the module."""
    places = np.arange(windows.shape[1])
    for number, channel in np.argwhere(np.isnan(windows).any(axis=1)):
        values = windows[number, :, channel]
        known = ~np.isnan(values)
        values[~known] = np.interp(places[~known], places[known], values[known])
    return windows


def decimals(rate: float) -> int:
    """Return how many decimals of a second are enough to distinguish two samples at this rate."""
    return 6 if rate <= MICROSECONDS else 9


def start_text(start: float | str, rate: float | None) -> str:
    """Return a start as text for an id: a date, or the shortest number of seconds or samples."""
    if isinstance(start, str) or rate is None:
        return str(start)
    return f"{start:.{decimals(rate)}f}".rstrip("0").rstrip(".")
