"""Segments of recordings in a request: a segment is as long as a window, or is longer and is cut into windows.

The windows of a longer segment start every `hop` samples of the encoder's transform. Samples have the encoder's rate,
and are raw: normalizing windows is part of the encoder. A missing sample is null, or NaN in an .npy body. Missing
samples are filled as in a file (training.transforms.cut_windows).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.service.errors import RequestError, TooLargeError, truncate_repr
from lookalike.training.array_types import Doubles
from lookalike.training.transforms import WindowTransform
from lookalike.training.transforms.cut_windows import cut, decimals, filled, start_text, starts_of, usable

__all__ = ["SegmentWindow", "Segments", "cut_segments", "filled_windows", "window_items"]

_TYPES = {int, float, type(None)}
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SegmentWindow:
    """The place of a window in a request.

    Attributes:
        input: the number of the window's segment in the request.
        start, end: the window's place in the segment: in seconds if the encoder has a rate, else in samples.
        is_whole: whether the segment has exactly a window's length.
    """

    input: int
    start: float
    end: float
    is_whole: bool


@dataclass(frozen=True)
class Segments:
    """The windows of all segments, (n, width) raw, and the place of each."""

    rows: Doubles
    windows: tuple[SegmentWindow, ...]

    @property
    def described(self) -> tuple[SegmentWindow, ...]:
        """The windows, for an answer; empty if each segment is one window, because the request has the same order."""
        return () if all(window.is_whole for window in self.windows) else self.windows


def cut_segments(values: Any, transform: WindowTransform, most: int, at: str) -> Segments:
    """Cut segments into windows: a list of flat or nested lists, or an array (n, width).

    Args:
        most: the greatest number of windows.
        at: the field of segment {}, for errors.

    Raises:
        RequestError: a segment is not such a list, is shorter than a window, or lacks too many samples.
        TooLargeError: there are too many windows.
    """
    segments = [_samples(value, transform, at.format(number)) for number, value in enumerate(values)]
    starts = [starts_of(len(segment), transform) for segment in segments]
    if (count := sum(map(len, starts))) > most:
        name = at.partition("[")[0]
        raise TooLargeError(name, expected=f"at most {most} windows in a call", found=f"segments of {count} windows")
    rows = np.empty((count, *transform.shape))  # (windows, window, channels)
    windows: list[SegmentWindow] = []
    for number, (segment, first) in enumerate(zip(segments, starts, strict=True)):
        kept = first[usable(segment, first, transform)]
        if not len(kept):
            raise _too_incomplete(at.format(number), transform)
        rows[len(windows) : len(windows) + len(kept)] = filled(cut(segment, kept, transform.window))
        is_whole = len(segment) == transform.window
        windows += [_window(number, start, transform, is_whole) for start in kept.tolist()]
    return Segments(rows[: len(windows)].reshape(len(windows), -1), tuple(windows))


def filled_windows(rows: NDArray[Any], transform: WindowTransform, at: str) -> NDArray[Any]:
    """Fill the missing samples of (n, width) windows. Raises RequestError if a window lacks too many samples."""
    if rows.dtype.kind != "f" or not np.isnan(rows).any():
        return rows
    windows = rows.reshape(-1, *transform.shape).copy()  # (n, window, channels)
    missing = np.isnan(windows).sum(axis=1)  # (n, channels)
    wrong = np.flatnonzero((missing > transform.max_missing * transform.window).any(axis=1))
    if len(wrong):
        raise _too_incomplete(at.format(wrong[0]), transform)
    return filled(windows).reshape(rows.shape)


def window_items(
    ids: list[str], payloads: list[dict[str, Any]], segments: Segments, transform: WindowTransform
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the id and the payload of each window.

    A segment that is one window gives its id and its payload to the window. A window of a longer segment has the id
    `id@start`, and its payload also has `start`, `end` and `recording`: the segment's id, unless the payload names a
    recording.
    """
    names, fields = [], []
    for window in segments.windows:
        name, payload = ids[window.input], payloads[window.input]
        if not window.is_whole:
            payload = {"recording": name, **payload, "start": window.start, "end": window.end}
            name = f"{name}@{start_text(window.start, transform.rate)}"
        names.append(name)
        fields.append(payload)
    return names, fields


def _window(number: int, start: int, transform: WindowTransform, is_whole: bool) -> SegmentWindow:
    if (rate := transform.rate) is None:
        return SegmentWindow(number, start, start + transform.window, is_whole)
    begin, end = (round(sample / rate, decimals(rate)) for sample in (start, start + transform.window))
    return SegmentWindow(number, begin, end, is_whole)


def _samples(value: Any, transform: WindowTransform, place: str) -> Doubles:
    """One segment -> (n, channels), n at least the window; NaN for null."""
    window, channels = transform.shape
    if isinstance(value, np.ndarray):
        value = value.tolist()
    flat = _flat(value, channels)
    if flat is None or len(flat) < window * channels or (not _is_nested(value) and _is_ambiguous(flat, transform)):
        expected = f"a list of {window} samples or more, each a list of {channels} numbers; or {window * channels}"
        expected += " numbers, sample after sample"
        raise RequestError(place, expected=expected, found=_found(value, channels))
    if not set(map(type, flat)) <= _TYPES:  # a bool is an int for isinstance, but not a number here
        number, wrong = next((number, each) for number, each in enumerate(flat) if type(each) not in _TYPES)
        raise RequestError(place, expected="numbers or null", found=f"{truncate_repr(wrong)} at value {number}")
    try:
        samples = np.array(flat, np.float64)
    except OverflowError:
        samples = np.array([np.inf])
    if (np.abs(samples) > _LARGEST).any():
        raise RequestError(place, expected="finite numbers that fit float32", found="infinity or too large a number")
    return samples.reshape(-1, channels)


def _found(value: Any, channels: int) -> str:
    """Describe a wrong segment: its first sample with another number of values, or the whole value."""
    if isinstance(value, list) and _is_nested(value):
        for number, sample in enumerate(value):
            if not isinstance(sample, list) or len(sample) != channels:
                return f"{truncate_repr(sample)} as sample {number}"
    return truncate_repr(value)


def _is_nested(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], list)


def _is_ambiguous(flat: list[Any], transform: WindowTransform) -> bool:
    """Whether a flat list could be read in several ways: with several channels, it must be exactly one window."""
    return len(transform.channels) > 1 and len(flat) != transform.window * len(transform.channels)


def _flat(value: Any, channels: int) -> list[Any] | None:
    """Return the values of a flat list, or of lists of `channels` values; None for any other value."""
    if not isinstance(value, list):
        return None
    if not _is_nested(value):
        return value
    if not all(isinstance(sample, list) and len(sample) == channels for sample in value):
        return None
    return [number for sample in value for number in sample]


def _too_incomplete(place: str, transform: WindowTransform) -> RequestError:
    expected = f"a window with at most {transform.max_missing:.0%} of missing values in each channel"
    return RequestError(place, expected=expected, found="more missing values")
