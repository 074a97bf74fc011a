"""The stretch of a recording that a window covers, read from the window's payload."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lookalike.training.array_types import Booleans

__all__ = ["Stretch", "overlapping", "stretch_of"]

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ][\d:.]*)?)?)?Z?\Z", re.ASCII)


class Stretch(NamedTuple):
    """From `start` to `end`, which is not part of it: samples or seconds; seconds since 1970 for dates and times."""

    recording: str
    start: float
    end: float

    def overlaps(self, other: "Stretch") -> bool:
        return self.recording == other.recording and self.start < other.end and other.start < self.end

    def widened(self, by: float) -> "Stretch":
        """Return the stretch that begins earlier and ends later; a negative `by` leaves it unchanged."""
        return Stretch(self.recording, self.start - max(0.0, by), self.end + max(0.0, by))


def stretch_of(payload: dict[str, Any], group: str = "recording") -> Stretch | None:
    """Return the stretch that a payload names; None if it has no recording, start and end that make one."""
    recording, start, end = payload.get(group), _number(payload.get("start")), _number(payload.get("end"))
    if recording is None or start is None or end is None or not start < end:
        return None
    return Stretch(str(recording), start, end)


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


def overlapping(stretches: Sequence[Stretch | None], chosen: Booleans) -> Booleans:
    """(n,): which of the other stretches overlap one of the chosen stretches; None overlaps nothing."""
    found = np.zeros(len(stretches), np.bool_)
    members: dict[str, list[int]] = {}
    for place, stretch in enumerate(stretches):
        if stretch:
            members.setdefault(stretch.recording, []).append(place)
    for places in map(np.array, members.values()):
        edges = np.array([stretches[place][1:] for place in places])  # (m, 2)
        picked = chosen[places]
        if not picked.any():
            continue
        ours = edges[picked][np.argsort(edges[picked, 0])]
        latest = np.concatenate([[-np.inf], np.maximum.accumulate(ours[:, 1])])  # of those that begin earlier
        before = np.searchsorted(ours[:, 0], edges[:, 1])  # the chosen that begin before a stretch ends
        found[places] = (latest[before] > edges[:, 0]) & ~picked
    return found
