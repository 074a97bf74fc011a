"""From blocks of samples to windows: split at gaps, resample, and cut, in constant memory.

The windows do not depend on the blocks: the samples that a later window needs are kept from one block to the next.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Doubles, Integers
from lookalike.training.errors import DataError
from lookalike.training.rows.recording_blocks import Block, Source
from lookalike.training.transforms import WindowTransform
from lookalike.training.transforms.cut_windows import cut, decimals, filled, usable
from lookalike.training.transforms.resample import MAX_FACTOR, Resampler, factor_of

__all__ = ["HEAD", "Piece", "WindowCounts", "clock_rate", "pieces_of", "windows_of"]

HEAD = 10_000
"""The rate of a recording is measured on this many samples at its beginning."""


@dataclass
class WindowCounts:
    """Counts made while recordings are cut.

    Attributes:
        windows, skipped: windows that are rows, and windows with too many missing samples.
        gaps, short: gaps that split a recording, and segments that are shorter than a window.
        repeated: samples with the same time as the sample before, which are left out.
        longest: the samples of the longest segment.
        names: the recordings.
        steps: the least and the greatest seconds from one sample of a segment to the next.
    """

    windows: int = 0
    skipped: int = 0
    gaps: int = 0
    short: int = 0
    repeated: int = 0
    longest: int = 0
    names: set[str] = field(default_factory=set)
    steps: tuple[float, float] = (math.inf, 0.0)

    def note_steps(self, steps: Doubles) -> None:
        """Note the seconds between the samples of one segment."""
        if len(steps):
            least, most = self.steps
            self.steps = min(least, float(steps.min())), max(most, float(steps.max()))


@dataclass(frozen=True)
class Piece:
    """Samples at one rate, and the windows that begin among these samples.

    Attributes:
        values, codes: (n, channels) and (n,), as in `Block`.
        starts: (m,) the first samples of the windows, in `values`.
        begins: (m,) the starts of the windows: seconds after the recording's first sample, or numbers of samples if the
            recording has no clock.
        origin: the time of the recording's first sample.
    """

    recording: str
    values: NDArray[np.floating]
    codes: Integers
    starts: Integers
    begins: NDArray[Any]
    origin: np.float64 | np.int64


def pieces_of(source: Source, transform: WindowTransform, size: int, counts: WindowCounts) -> Iterator[Piece]:
    """Yield the windows of a file in order, and update `counts`; `size`: samples per block.

    Raises DataError, which names the row, if times go backwards, or if a recording continues after another recording.
    """
    current: _Recording | None = None
    for block in source.blocks(size):
        if not len(block.values):
            continue
        if current is None or block.recording != current.name:
            if current is not None:
                yield from current.close()
            if block.recording in counts.names:
                place, expected = f"{source.path}, row {block.row}", "all samples of a recording together"
                found = f"more samples of {block.recording!r} after another recording"
                raise DataError(place, expected=expected, found=found, remedy="Sort the table by recording.")
            counts.names.add(block.recording)
            current = _Recording(source, transform, block, counts)
        yield from current.add(block)
    if current is not None:
        yield from current.close()


def windows_of(
    piece: Piece, source: Source, transform: WindowTransform, chosen: slice
) -> tuple[NDArray[np.floating], list[dict[str, Any]]]:
    """Return the chosen windows of a piece, (m, window * channels), and their payloads."""
    starts = piece.starts[chosen]
    values = filled(cut(piece.values, starts, transform.window))
    names = [_majority(codes) for codes in cut(piece.codes[:, None], starts, transform.window)[:, :, 0]]
    labels = [source.labels[code] if code >= 0 else source.label for code in names]
    length = transform.window if transform.rate is None else transform.window / transform.rate
    begins = _times(piece.begins[chosen], piece.origin, source, transform)
    ends = _times(piece.begins[chosen] + length, piece.origin, source, transform)
    payloads = [
        {"recording": piece.recording, "start": start, "end": end, **({} if label is None else {"label": label})}
        for start, end, label in zip(begins, ends, labels, strict=True)
    ]
    return values.reshape(len(starts), -1), payloads


def _majority(codes: Integers) -> int:
    """Return the most frequent of (window,) codes; if several are, the earliest in the file; -1 without labels."""
    if codes[0] == codes[-1] and (codes == codes[0]).all():
        return int(codes[0])
    found, counts = np.unique(codes[codes >= 0], return_counts=True)
    return int(found[np.argmax(counts)])


def _times(begins: NDArray[Any], origin: Any, source: Source, transform: WindowTransform) -> list[Any]:
    """Seconds or sample numbers of a recording -> numbers, or dates as ISO 8601 text."""
    if transform.rate is None:
        return [int(begin) for begin in begins]
    if isinstance(origin, np.int64):
        stamps = (origin + np.rint(begins * 1e9).astype(np.int64)).astype("M8[ns]").astype("M8[us]")
        return [f"{stamp}Z" if source.zoned else stamp for stamp in np.datetime_as_string(stamps).tolist()]
    rounded: list[Any] = np.round(begins + origin, decimals(transform.rate)).tolist()
    return rounded


class _Recording:
    """One recording: its clock, and the segment that is open."""

    def __init__(self, source: Source, transform: WindowTransform, first: Block, counts: WindowCounts) -> None:
        self.name = first.recording
        self._source, self._transform, self._counts = source, transform, counts
        self._origin = np.float64(0) if first.times is None else first.times[0]
        self._head: list[Block] | None = None if first.times is None else []
        """The first blocks, until the rate is known; None afterwards."""
        self._rate = source.rate
        self._has_times = first.times is not None
        self._dtype = first.values.dtype
        self._count = 0
        self._last = -math.inf
        """The time of the last sample, in seconds after the first."""
        self._segment: _Segment | None = None

    def add(self, block: Block) -> Iterator[Piece]:
        """Add the next samples, and yield the windows that are known."""
        if self._head is None:
            yield from self._add(block)
            return
        self._head.append(block)
        if sum(len(part.values) for part in self._head) >= HEAD:
            yield from self._measure(self._head)

    def close(self) -> Iterator[Piece]:
        """End the recording, and yield the rest."""
        if self._head is not None:
            yield from self._measure(self._head)
        yield from self._close_segment()

    def _measure(self, head: list[Block]) -> Iterator[Piece]:
        times = np.concatenate([block.times for block in head if block.times is not None])
        self._rate, self._head = clock_rate(times, self._source, self.name), None
        for block in head:
            yield from self._add(block)

    def _add(self, block: Block) -> Iterator[Piece]:
        count = len(block.values)
        if block.times is None:
            times = (self._count + np.arange(count)) / (self._rate or 1.0)
            self._count += count
            yield from self._extend(times, block.values, block.codes)
            return
        times = seconds_after(block.times, self._origin)
        steps = np.diff(times, prepend=self._last)
        if (steps < 0).any():
            raise self._backwards(block, int(np.argmax(steps < 0)))
        kept = steps > 0
        self._counts.repeated += int(count - kept.sum())
        self._last = float(times[-1])
        times, values, codes, steps = times[kept], block.values[kept], block.codes[kept], steps[kept]
        is_gap = np.isfinite(steps) & (steps > (self._transform.max_gap or math.inf))
        self._counts.note_steps(steps[np.isfinite(steps) & ~is_gap])
        edges = [*np.unique([0, *np.flatnonzero(is_gap)]), len(times)]
        for first, last in pairwise(edges if len(times) else []):
            if is_gap[first]:
                self._counts.gaps += 1
                yield from self._close_segment()
            yield from self._extend(times[first:last], values[first:last], codes[first:last])

    def _extend(self, times: Doubles, values: NDArray[np.floating], codes: Integers) -> Iterator[Piece]:
        if (segment := self._segment) is None:
            segment = self._segment = _Segment(float(times[0]), self._resampler(), self._transform, self._dtype)
        if segment.resampler:
            values, codes = segment.resampler.add(times, values.astype(np.float64), codes)
        yield from self._piece(segment, values, codes)

    def _close_segment(self) -> Iterator[Piece]:
        if (segment := self._segment) is None:
            return
        if segment.resampler:
            yield from self._piece(segment, *segment.resampler.finish())
        self._counts.longest = max(self._counts.longest, segment.count)
        self._counts.short += segment.count < self._transform.window
        self._segment = None

    def _piece(self, segment: "_Segment", values: NDArray[np.floating], codes: Integers) -> Iterator[Piece]:
        transform = self._transform
        numbers = segment.add(values.astype(self._dtype, copy=False), codes)
        starts = numbers - segment.first
        enough = usable(segment.values, starts, transform)
        self._counts.windows += int(enough.sum())
        self._counts.skipped += int((~enough).sum())
        if enough.any():
            begins = numbers[enough] if transform.rate is None else segment.begin + numbers[enough] / transform.rate
            yield Piece(self.name, segment.values, segment.codes, starts[enough], begins, self._origin)
        segment.drop()

    def _resampler(self) -> Resampler | None:
        rate = self._transform.rate
        if rate is None or (self._source.rate in (None, rate) and not self._has_times):
            return None
        if (factor := factor_of(self._rate or rate, rate)) > MAX_FACTOR:
            expected = f"at most {MAX_FACTOR:,} times the rate {rate:g} to which recordings are resampled"
            found = f"{self._rate:g} samples per second in {self.name!r}"
            raise DataError(str(self._source.path), expected=expected, found=found, remedy="Set a higher --rate.")
        return Resampler(rate, factor, len(self._transform.channels))

    def _backwards(self, block: Block, number: int) -> DataError:
        place = f"{self._source.path}, row {block.row + number}, column {self._transform.time}"
        found = "an earlier time than in the row before"
        return DataError(place, "times that do not go backwards", found, remedy="Sort the samples by time.")


class _Segment:
    """The samples of one segment, at one rate, that later windows need."""

    def __init__(
        self, begin: float, resampler: Resampler | None, transform: WindowTransform, dtype: np.dtype[Any]
    ) -> None:
        """`begin`: seconds after the first sample of the recording."""
        self.begin, self.resampler = begin, resampler
        self._window, self._hop = transform.window, transform.hop
        self.values: NDArray[np.floating] = np.empty((0, len(transform.channels)), dtype)
        self.codes: Integers = np.empty(0, np.int64)
        self.first = self.count = self._next = 0
        """The number of the first sample in memory, the count of all samples, and the number of the next window's first
        sample."""

    def add(self, values: NDArray[np.floating], codes: Integers) -> Integers:
        """Add samples; return the numbers of the first samples of the windows that end among them."""
        skipped = max(0, self.first - self.count)  # a hop beyond the window leaves samples out
        self.count += len(values)
        self.values = np.concatenate([self.values, values[skipped:]]) if len(self.values) else values[skipped:]
        self.codes = np.concatenate([self.codes, codes[skipped:]]) if len(self.codes) else codes[skipped:]
        numbers = np.arange(self._next, self.count - self._window + 1, self._hop)
        self._next += len(numbers) * self._hop
        return numbers

    def drop(self) -> None:
        """Drop the samples before the next window."""
        done = self._next - self.first
        self.values, self.codes, self.first = self.values[done:].copy(), self.codes[done:].copy(), self._next


def seconds_after(times: NDArray[Any], origin: Any) -> Doubles:
    """Times of a source, in seconds or nanoseconds -> seconds after the time `origin`."""
    after: NDArray[Any] = times - origin
    seconds: Doubles = after / 1e9 if after.dtype == np.int64 else after
    return seconds


def clock_rate(times: NDArray[Any], source: Source, name: str) -> float:
    """Return the rate of a recording: 1 over the mean of its usual steps from one sample to the next.

    A usual step is between half the median and twice the median of all steps. Only the first HEAD samples count. Raises
    DataError if most samples are not later than the sample before.
    """
    steps = np.diff(seconds_after(times[:HEAD], times[0]))
    rising = steps[steps > 0]
    if len(steps) > 1 and 2 * len(rising) < len(steps):
        backwards = 2 * (steps < 0).sum() > len(steps)
        expected = "times that rise from sample to sample"
        found = f"{'times that go backwards' if backwards else 'the same time'} in most samples of {name!r}"
        remedy = "If the samples have one rate, leave the times out, and name the rate with --rate."
        remedy = "Sort the samples by time." if backwards else remedy
        raise DataError(str(source.path), expected=expected, found=found, remedy=remedy)
    if not len(rising):
        return 0.0
    middle = np.median(rising)
    return float(1 / rising[(rising >= middle / 2) & (rising <= 2 * middle)].mean())
