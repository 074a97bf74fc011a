"""A column's origin: what is subtracted from its values, in float64, before they become float32.

float32 keeps 24 bits. A time in seconds since 1970 needs 31 bits before the point, so float32 rounds it to 128 seconds,
and times that are a minute apart become equal. If a time near the values is subtracted first, the column keeps its
resolution. A column that float32 represents well enough has the origin 0. If all columns have the origin 0, the rows
have no origin: None.

float64 does not represent every whole number either: it keeps 53 bits, and times in nanoseconds since 1970 need 61.
Such a column of a table has a base, which is subtracted in integers before its values become float64
(training.tables.columns).
"""

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Booleans, Doubles, Floats

__all__ = [
    "EXACT",
    "Origin",
    "absolute",
    "find_base",
    "find_origin",
    "is_blurred",
    "is_coarse",
    "is_merged",
    "minus_base",
    "relative",
    "subtracted",
]

Origin = Doubles | None
"""(width,) float64, one value per column; None: all are 0."""

FAR = 2.0**8
"""A column has an origin if its values are farther from 0 than this multiple of their spread.

At this limit, float32 has 16 bits left for the spread.
"""
COARSE = 2.0**16
"""The same limit for values that were float32 before; 8 bits are left for the spread."""
LOST = 0.1
"""A column loses resolution if a larger share of its different values becomes equal."""
UNEVEN = 0.125
"""A column uses float32's last bit if the bit is 1 in a larger share of values; in whole numbers it is usually 0."""
WHOLE = 2.0**24
"""Beyond this number, float32 does not represent every whole number."""
EXACT = 2**53
"""Beyond this number, float64 does not represent every whole number."""
SURE_BITS = 44
"""How many of the 53 bits of a float64 are compared: earlier computations may have rounded the last bits."""
_LARGEST = float(np.finfo(np.float32).max)


def relative(values: NDArray[np.generic], origin: Origin) -> Floats:
    """(n, width) numbers of any type -> float32, minus the origin; infinite if a value does not fit float32.

    Rows become float32 only here. Rows that are float32 already and have no origin are copied only if they are not
    writable, because torch needs writable memory.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return subtracted(values, origin)


def subtracted(values: NDArray[np.generic], origin: Origin) -> Floats:
    """As `relative`, but NumPy warns if a value does not fit."""
    if origin is not None:
        values = np.subtract(values, origin, dtype=np.float64)
    return values.astype(np.float32, order="C", copy=not values.flags.behaved)


def absolute(rows: NDArray[np.floating], origin: Origin) -> NDArray[np.floating]:
    """(n, width) rows minus their origin -> the original values: float64, or if there is no origin, the same rows."""
    return rows if origin is None else rows + origin


def find_origin(sample: Doubles) -> Origin:
    """Each column's origin, from some rows, (n, width) float64, NaN if a value is missing.

    The origin is near the median of the column's distinct values, so that a value that means "missing", such as 0, does
    not move it. It is a multiple of a power of ten above their spread, so that people can read it.
    """
    origin = np.zeros(sample.shape[1])
    for column in np.flatnonzero(~_is_exact(sample)):
        values = _different(sample[:, column])
        center, spread = _center_and_spread(values)
        if FAR * spread < abs(center) <= _LARGEST / 2:
            unit = 10.0 ** np.ceil(np.log10(max(spread, abs(center) * 2.0**-SURE_BITS)))
            origin[column] = round(center / unit) * unit
    return origin if origin.any() else None


def find_base(low: int, high: int) -> int:
    """Return the base of a column of whole numbers from `low` to `high`; 0 if float64 represents them well enough."""
    return low if max(abs(low), abs(high)) > EXACT > high - low else 0


def minus_base(values: NDArray[np.generic], base: int) -> Doubles:
    """(n,) numbers -> (n,) float64, minus a base of at most 64 bits; integers are subtracted as integers."""
    rough: Doubles = values.astype(np.float64) - float(base)
    if values.dtype.kind not in "iu":
        return rough
    whole = np.array([base % 2**64], np.uint64).view(np.int64)  # differences that fit are right modulo 2**64
    exact: Doubles = (values.astype(np.int64) - whole).astype(np.float64)
    return np.where(np.abs(rough) < 2.0**62, exact, rough)


def is_merged(sample: NDArray[np.integer]) -> Booleans:
    """(width,): in which columns of (n, width) integers different values become equal as float64."""
    counts = [[len(np.unique(column)), len(np.unique(column.astype(np.float64)))] for column in sample.T]
    return np.array([kept < (1 - LOST) * count for count, kept in counts], np.bool_)


def is_blurred(sample: Doubles, origin: Origin) -> Booleans:
    """(width,): in which columns of (n, width) float64 different values become equal, even minus the origin."""
    found = np.zeros(sample.shape[1], np.bool_)
    for column in np.flatnonzero(~_is_exact(sample)):
        values = _different(sample[:, column])
        kept = len(np.unique(relative(values[:, None], None if origin is None else origin[[column]])))
        found[column] = kept < (1 - LOST) * len(values)
    return found


def is_coarse(rows: Floats) -> Booleans:
    """(width,): which columns of (n, width) float32 have probably lost resolution, because they became float32.

    Their values are far from 0 for their spread, and use float32's last bit or are beyond WHOLE. A constant column
    beyond WHOLE is included, because its values may have been different times.
    """
    found = np.zeros(rows.shape[1], np.bool_)
    uneven = (np.ascontiguousarray(rows).view(np.uint32) & 1).mean(axis=0) > UNEVEN
    for column in np.flatnonzero(uneven | (np.fmax.reduce(np.abs(rows)) > WHOLE)):
        center, spread = _center_and_spread(_different(rows[:, column].astype(np.float64)))
        found[column] = abs(center) > COARSE * spread and (spread > 0 or abs(center) > WHOLE)
    return found


def _is_exact(sample: Doubles) -> Booleans:
    """(width,): for which columns float32 represents every value exactly."""
    held = relative(sample, None)
    exact: Booleans = ((held == sample) | np.isnan(sample)).all(axis=0)
    return exact


def _different(values: Doubles) -> Doubles:
    """Return the sorted, unique, finite values, rounded to `SURE_BITS` unless all are whole numbers."""
    values = values[np.isfinite(values)]
    if (values != np.rint(values)).any():
        fraction, exponent = np.frexp(values)
        values = np.ldexp(np.rint(np.ldexp(fraction, SURE_BITS)), exponent - SURE_BITS)
    return np.unique(values)


def _center_and_spread(values: Doubles) -> tuple[float, float]:
    """Return the median (one of the sorted values) and the interquartile range; 0 and 0 without values."""
    if not len(values):
        return 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile(values, (0.25, 0.75))
    return float(values[(len(values) - 1) // 2]), float(high - low)
