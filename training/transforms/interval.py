"""The interval of a recording that a window covers, read from the window's payload."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lookalike.training.array_types import Booleans

__all__ = ["Interval", "interval_of", "overlapping"]

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ][\d:.]*)?)?)?Z?\Z", re.ASCII)


class Interval(NamedTuple):
    """From `start` to `end` (exclusive) of a recording: in samples, or in seconds; dates are seconds since 1970."""

    recording: str
    start: float
    end: float

    def overlaps(self, other: "Interval") -> bool:
        return self.recording == other.recording and self.start < other.end and other.start < self.end

    def widened(self, by: float) -> "Interval":
        """Return the interval that begins `by` earlier and ends `by` later; the same interval if `by` is negative."""
        return Interval(self.recording, self.start - max(0.0, by), self.end + max(0.0, by))


def interval_of(payload: dict[str, Any], group: str = "recording") -> Interval | None:
    """Return the interval that a payload names; None if it lacks a recording, or a start that is before its end."""
    recording, start, end = payload.get(group), _number(payload.get("start")), _number(payload.get("end"))
    if recording is None or start is None or end is None or not start < end:
        return None
    return Interval(str(recording), start, end)


def _number(value: object) -> float | None:
    """Return a number, or a date and time in ISO 8601, in UTC or without a zone, as seconds since 1970."""
    if isinstance(value, str):
        if not _DATE.match(value):  # NumPy also reads "now" and "today"
            return None
        try:
            stamp = np.datetime64(value.removesuffix("Z"), "us")
        except ValueError:
            return None
        return None if np.isnat(stamp) else float(stamp.astype(np.int64)) / 1e6
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def overlapping(intervals: Sequence[Interval | None], chosen: Booleans) -> Booleans:
    """(n,): which of the other intervals overlap one of the chosen intervals; None overlaps nothing."""
    found = np.zeros(len(intervals), np.bool_)
    members: dict[str, list[int]] = {}
    for place, interval in enumerate(intervals):
        if interval:
            members.setdefault(interval.recording, []).append(place)
    for places in map(np.array, members.values()):
        edges = np.array([intervals[place][1:] for place in places])  # (m, 2)
        picked = chosen[places]
        if not picked.any():
            continue
        ours = edges[picked][np.argsort(edges[picked, 0])]
        latest = np.concatenate([[-np.inf], np.maximum.accumulate(ours[:, 1])])  # the latest end so far
        before = np.searchsorted(ours[:, 0], edges[:, 1])  # how many chosen intervals begin before it ends
        found[places] = (latest[before] > edges[:, 0]) & ~picked
    return found
