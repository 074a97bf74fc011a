"""The range of values that an encoder knows: the range that it was fitted on, and ten of its widths on either side.

The encoder clips a value outside to the nearest end of the range, so that one value cannot dominate the embedding or
overflow float32. Ordinary rows are not changed: a training value is clipped only if the fit set it aside.

The fit sets a value aside by its gap to the others over their range, after W. J. Dixon ("Analysis of Extreme Values",
Annals of Mathematical Statistics 21, 1950). Its limit is so high that one scale cannot cover the values beyond it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lookalike.training.array_types import Doubles, Floats, Integers
from lookalike.training.tables.origin import Origin

__all__ = ["MAX_NAMED", "Clipped", "ClippedValue", "Ids", "allowed", "clipped_at", "far_rows", "known_range"]

WIDTHS = 10.0
"""The known range is a column's fitted range, extended by this many of its widths on either side."""
FLAT = 1_000.0
"""Around a column that never varied, this multiple of the value's size, or of 1, is known on either side."""
FAR = 100.0
"""The fit sets aside a value that is more than this many widths outside the range of nearly all others."""
FEW = 0.05
"""The fit sets aside at most this share of a column's values. If more are far, they are no exceptions."""
FEWEST = 10
"""The fit sets no value aside if there are fewer values than this."""
SAMPLE_ROWS, SAMPLE_VALUES = 4_096, 1 << 20
MAX_NAMED = 20
"""At most this many clipped values are named."""
_LARGEST = float(np.finfo(np.float32).max)

Ids = Sequence[str] | Sequence[int] | Integers


@dataclass(frozen=True)
class ClippedValue:
    """A value outside the known range, which is from `low` to `high`.

    Attributes:
        id: the row's id: an item's id, or the row's number from 0.
        column: the column's name in a table, else its number from 0.
    """

    id: str | int
    column: str | int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"row {self.id}, column {self.column}: {self.value:g} (known: {self.low:g} to {self.high:g})"


@dataclass(frozen=True)
class Clipped:
    """The values that an encoder clips: their number, and the first of them."""

    count: int = 0
    values: tuple[ClippedValue, ...] = ()

    def joined(self, more: "Clipped") -> "Clipped":
        """Return both together."""
        return Clipped(self.count + more.count, (self.values + more.values)[:MAX_NAMED]) if more.count else self

    def text(self, most: int = 3) -> str:
        """The first `most` values as text, and how many more there are."""
        rest = self.count - len(self.values[:most])
        return "; ".join(map(str, self.values[:most])) + (f"; and {rest:,} more" if rest else "")


def known_range(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The fitted range, (features,) float64 each, raw -> the least and the greatest known value, raw, float32."""
    width = high - low
    slack = torch.where(width > 0, WIDTHS * width, FLAT * low.abs().clamp_min(1))
    return (low - slack).clamp(-_LARGEST, _LARGEST).float(), (high + slack).clamp(-_LARGEST, _LARGEST).float()


def clipped_at(
    rows: Floats,
    places: Integers,
    ids: Ids,
    *,
    names: Sequence[str],
    limits: tuple[Floats, Floats],
    origin: Origin = None,
) -> Clipped:
    """Return the values at given places, with the ids of their rows and the names of their columns.

    Args:
        rows: (n, width) raw, minus `origin`; the returned values include it.
        places: (m, 2), the row and the column of each value.
        ids: n ids or numbers of rows.
        names: the names of a table's columns; empty to number the columns.
        limits: (width,) each, the least and the greatest known value, minus `origin`.
    """
    low, high = limits
    shift = [0.0] * rows.shape[1] if origin is None else origin.tolist()
    first = [
        ClippedValue(
            name if isinstance(name := ids[row], str) else int(name),
            names[column] if names else int(column),
            *(_shortest(number) + shift[column] for number in (rows[row, column], low[column], high[column])),
        )
        for row, column in places[:MAX_NAMED]
    ]
    return Clipped(len(places), tuple(first))


def _shortest(value: np.float32) -> float:
    """The number with the fewest digits that float32 rounds to `value`: 3e38 and not 2.9999999e38."""
    return float(str(value))


def allowed(counts: Integers) -> Integers:
    """(k,) numbers of values -> how many of them may be far outside; if more are, the range has moved."""
    most: Integers = np.maximum((FEW * counts).astype(np.int64), counts >= FEWEST)
    return most


def far_rows(rows: Floats, edges: tuple[Doubles, Doubles], *, together: bool) -> dict[int, Integers]:
    """Find the rows whose value in a column is so far from nearly all others that one scale cannot hold both.

    Args:
        rows: (n, width) raw, NaN for missing.
        edges: (width,) each, the least and the greatest value of each column.
        together: whether all columns have one unit, such as pixels, and are judged by one range.

    Returns:
        For each column with such values, their rows in ascending order. A column with too many of them is left out.
    """
    if len(rows) < FEWEST or not rows.shape[1]:
        return {}
    size = min(len(rows), SAMPLE_ROWS, max(FEWEST, SAMPLE_VALUES // rows.shape[1]))
    sample = rows[np.linspace(0, len(rows) - 1, size).astype(np.int64)].T.astype(np.float64)  # (width, size)
    low, high, middle = _usual(sample.reshape(1, -1) if together else sample)
    found = {}
    for column in np.flatnonzero((edges[0] < low - FAR * (high - low)) | (edges[1] > high + FAR * (high - low))):
        values, place = rows[:, column], 0 if together else column
        width = high[place] - low[place] or _size_of_rare(rows if together else values, middle[place])
        far = np.flatnonzero((values < low[place] - FAR * width) | (values > high[place] + FAR * width))
        if 0 < len(far) <= allowed(np.count_nonzero(~np.isnan(values), keepdims=True)).item():
            found[int(column)] = far
    return found


def _usual(values: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """(k, n), NaN for missing -> the range of nearly all values of each row, and their median: (k,) each.

    The few values that are farthest from the median are left out. With fewer than FEWEST values the range is infinite.
    """
    counts = np.count_nonzero(~np.isnan(values), axis=1)  # (k,)
    most = allowed(counts)
    enough, rows = counts >= FEWEST, np.arange(len(values))
    ordered = np.sort(values, axis=1)  # NaN comes last
    middle = ordered[rows, np.where(enough, counts // 2, 0)]
    gaps = np.abs(ordered - middle[:, None])
    limit = np.sort(gaps, axis=1)[rows, np.where(enough, counts - 1 - most, 0)]
    near = gaps <= limit[:, None]  # (k, n)
    low = np.where(near, ordered, np.inf).min(axis=1)
    high = np.where(near, ordered, -np.inf).max(axis=1)
    return np.where(enough, low, -np.inf), np.where(enough, high, np.inf), middle


def _size_of_rare(values: Floats, usual: float) -> float:
    """The lower median of the rare values' distances from the usual value; at least the usual value's size, and 1."""
    gaps = np.sort(np.abs(values[(values != usual) & ~np.isnan(values)].astype(np.float64) - usual))
    rare = float(gaps[(len(gaps) - 1) // 2]) if len(gaps) > 1 else 0.0
    return max(1.0, abs(usual), rare)
