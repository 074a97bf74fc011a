"""Resample a segment of a recording to one rate, block by block. The result does not depend on the size of the blocks.

1. Linear interpolation in time between the two samples around each new time. If a new time is within a hundredth of
   this gap from a sample, the result is that sample, so an even clock of the same rate changes nothing. Between a
   sample and a missing sample, the result is missing.
2. If the rate is reduced by more than 5 %, step 1 produces `factor` times the rate, and a low-pass filter removes what
   the lower rate cannot represent before every `factor`-th sample is kept. The filter is that of
   `scipy.signal.resample_poly`: a finite impulse response of 20 factor + 1 taps, Kaiser window with beta 5.

At missing samples and beyond the ends of a segment, the filter has only some of its taps: its sum is divided by the
weight of the samples that are present (normalized convolution: Knutsson and Westin, CVPR 1993). The result is missing
if the sample at its own time is missing, or if less than half of the weight is present.
"""

import math

import numpy as np
from scipy.signal import firwin, upfirdn

from lookalike.training.array_types import Doubles, Integers

__all__ = ["MAX_FACTOR", "Resampler", "factor_of"]

SAME = 1.05
"""The rate is reduced if the source's rate is more than this multiple of the new rate."""
NEAR = 0.01
"""If a new time is this near to a sample, as a share of the gap between two samples, the result is the sample."""
MAX_FACTOR = 10_000
_SIDE = 10
"""Taps on each side of the filter's middle, as a multiple of the factor."""
Samples = tuple[Doubles, Integers]
"""(n, channels) values, NaN if missing, and (n,) codes of labels."""


def factor_of(source: float, rate: float) -> int:
    """Return how many interpolated samples become one at `rate`: 1 if the source's rate is not reduced."""
    return 1 if source <= SAME * rate else math.ceil(source / rate - 1e-9)


class Resampler:
    """Resamples one segment: `add` its samples block by block, then `finish`; each returns samples at the rate."""

    def __init__(self, rate: float, factor: int, channels: int) -> None:
        self._rate = rate * factor
        self._next = 0
        self._begin = 0.0
        self._last: tuple[Doubles, Doubles, Integers] = np.empty(0), *_missing(0, channels)
        self._decimator = _Decimator(factor, channels) if factor > 1 else None

    def add(self, times: Doubles, values: Doubles, codes: Integers) -> Samples:
        """(n,) rising seconds, (n, channels) and (n,) codes of the next samples -> the new samples that are known."""
        if not len(self._last[0]):
            self._begin = times[0]
        times, values, codes = (np.concatenate(pair) for pair in zip(self._last, (times, values, codes), strict=True))
        self._last = times[-1:], values[-1:], codes[-1:]
        samples = self._until(math.floor((times[-1] - self._begin) * self._rate) + 1, times, values, codes)
        return self._decimator.add(*samples) if self._decimator else samples

    def finish(self) -> Samples:
        """Return the last samples: at a new time just after the last sample, and from the filter; only after `add`."""
        stop = math.floor((self._last[0][0] - self._begin) * self._rate + NEAR) + 1
        samples = self._until(stop, *self._last)
        return self._decimator.finish(*samples) if self._decimator else samples

    def _until(self, stop: int, times: Doubles, values: Doubles, codes: Integers) -> Samples:
        """Interpolate at the times from number `self._next` to before number `stop`."""
        wanted = self._begin + np.arange(self._next, max(stop, self._next)) / self._rate
        self._next += len(wanted)
        before = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, max(0, len(times) - 2))
        after = np.minimum(before + 1, len(times) - 1)
        gap = times[after] - times[before]
        share = np.divide(wanted - times[before], gap, out=np.zeros(len(wanted)), where=gap > 0)
        result = values[before] + share[:, None] * (values[after] - values[before])  # (m, channels)
        result[share < NEAR] = values[before[share < NEAR]]
        result[share > 1 - NEAR] = values[after[share > 1 - NEAR]]
        return result, np.where(share < 0.5, codes[before], codes[after])


class _Decimator:
    """Filters samples, and keeps every `factor`-th result."""

    def __init__(self, factor: int, channels: int) -> None:
        self._factor, self._half = factor, _SIDE * factor
        self._beyond = _missing(self._half, channels)
        self._taps = firwin(2 * self._half + 1, 1 / factor, window=("kaiser", 5.0))
        self._full = float(upfirdn(self._taps, np.ones(2 * self._half + 1), 1, factor)[2 * _SIDE])
        self._values, self._codes = self._beyond
        """The samples that the next results need, from number `self._first` on; NaN before the segment."""
        self._first = -self._half
        self._next = 0
        self._count = 0

    def add(self, values: Doubles, codes: Integers) -> Samples:
        self._append(values, codes)
        return self._until((self._count - self._half - 1) // self._factor + 1)

    def finish(self, values: Doubles, codes: Integers) -> Samples:
        self._append(values, codes)
        count = self._count
        self._append(*self._beyond)
        return self._until((count - 1) // self._factor + 1)

    def _append(self, values: Doubles, codes: Integers) -> None:
        self._count += len(values)
        self._values, self._codes = np.concatenate([self._values, values]), np.concatenate([self._codes, codes])

    def _until(self, stop: int) -> Samples:
        """Return results `self._next` to `stop` - 1, and drop the samples that no later result needs."""
        count = max(0, stop - self._next)
        if not count:
            return self._values[:0], self._codes[:0]
        begin = self._next * self._factor - self._half - self._first
        end = begin + (count - 1) * self._factor + 2 * self._half + 1
        part, middle = self._values[begin:end], slice(begin + self._half, end - self._half, self._factor)
        result = self._filtered(part, count)
        missing = np.isnan(part)
        if missing.any():
            weight = self._filtered((~missing).astype(np.float64), count)
            result = np.where(weight == self._full, result, result / np.where(weight < 0.5, np.nan, weight))
            result[np.isnan(self._values[middle])] = np.nan
        codes = self._codes[middle]
        self._next += count
        drop = self._next * self._factor - self._half - self._first
        self._values, self._codes, self._first = self._values[drop:], self._codes[drop:], self._first + drop
        return result, codes

    def _filtered(self, part: Doubles, count: int) -> Doubles:
        """(n, channels) -> (count, channels): the sum over the taps around every `factor`-th sample, without NaN."""
        whole = upfirdn(self._taps, np.nan_to_num(part, nan=0.0), 1, self._factor, axis=0)
        result: Doubles = whole[2 * _SIDE : 2 * _SIDE + count]
        return result


def _missing(count: int, channels: int) -> Samples:
    return np.full((count, channels), np.nan), np.full(count, -1)
