"""The common form of every source of rows: a count, a shape, and checked chunks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Floats, Integers
from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.payloads import TablePayloads
from lookalike.training.tables.columns import Column
from lookalike.training.tables.origin import Origin, relative
from lookalike.training.transforms import ImageTransform, InputSpec, WindowTransform

__all__ = ["CHUNK_BYTES", "Chunk", "Rows", "evenly", "read_at", "read_sample", "sampled", "spread"]

CHUNK_BYTES = 8 << 20
"""The approximate size of a chunk of rows, as float32.

A chunk this small stays in a cache, and malloc reuses its memory. Above 32 MiB, malloc requests new pages from the
kernel each time, which costs more than reading the rows.
"""


Number = np.float32 | np.float64 | np.int64 | np.uint64


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows: their ids, their inputs (n, width), and their payloads.

    If a source has no ids, the id of a row is its number as text. In a version, ids must be unique.
    A source may read inputs of any numeric type; `Rows.chunks` yields float32 or float64.
    If the source has labels, the label of a row is `payload["label"]`. Labels are for evaluation, never for training.
    `previews` has a small WebP picture of each row if `Rows.with_previews` returned the rows; else it is empty.
    """

    ids: list[str]
    inputs: NDArray[Any]
    payloads: Sequence[dict[str, Any]]
    previews: list[bytes] = field(default_factory=list)

    def labels(self) -> list[Any]:
        """Return the label of each row, None for an unlabeled row."""
        if isinstance(self.payloads, TablePayloads):
            return self.payloads.labels()
        return [payload.get("label") for payload in self.payloads]


@dataclass(frozen=True)
class Rows:
    """A source of rows.

    Attributes:
        name: the name that the user gave.
        shape: the shape of one row; `width` is its product.
        count: the number of rows.
        pixels: whether all columns share one unit, as the pixels of a picture do.
        read: rows per chunk -> unchecked chunks in order. A new source yields its values unchanged: `measured_from`
            subtracts the origin.
        columns: the columns of a table, one for each value of a row; empty if they are unknown.
        gaps: whether values may be missing; a missing value is NaN.
        transform: the conversion of photos or recordings to these rows; None if the rows were read unchanged.
        group: the field of the payload that names the recording of a row; rows of one recording are held out together.
        settings: the settings with which the columns or the transform were chosen; None if an encoder gave them.
        origin: the values subtracted from each row (training.tables.origin); None if nothing is subtracted.
        notes: lines for the user about how the source was read.
        reopen: opens the same source with other settings, or for an encoder; None if neither changes the rows.
        read_with_previews: as `read`, with `Chunk.previews`; None if the rows are not pictures.
        skipped: the name of each file that could not be read, and the reason.
        ids: yields lists of ids, in order, without the inputs; None if the source has no ids: a row's number is its id.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    pixels: bool
    read: Callable[[int], Iterator[Chunk]]
    columns: tuple[Column, ...] = ()
    gaps: bool = False
    transform: ImageTransform | WindowTransform | None = None
    group: str | None = None
    settings: DataConfig | None = None
    origin: Origin = None
    notes: tuple[str, ...] = ()
    reopen: "Callable[[DataConfig, InputSpec | None], Rows] | None" = field(default=None, repr=False)
    read_with_previews: Callable[[int], Iterator[Chunk]] | None = field(default=None, repr=False)
    skipped: tuple[tuple[str, str], ...] = ()
    ids: Callable[[], Iterator[list[str]]] | None = field(default=None, repr=False)

    @property
    def width(self) -> int:
        return int(np.prod(self.shape))

    @property
    def series(self) -> bool:
        """Whether a row is a window of a recording, (window, channels), and not a picture or a list of columns."""
        return isinstance(self.transform, WindowTransform)

    def with_settings(self, settings: DataConfig) -> "Rows":
        """Return the same rows, read with these settings; rows that no setting changes stay unchanged.

        Raises DataError as `check_recording_settings` does.
        """
        self.check_recording_settings(settings)
        if self.reopen is None or self.settings is None or self.settings.reads_like(settings):
            return self
        return self.reopen(settings, None)

    def check_recording_settings(self, settings: DataConfig) -> None:
        """Raise DataError if a setting is only for recordings, and these rows are not windows of recordings."""
        if self.series or not settings.of_recordings:
            return
        names = ", ".join(f"data.{name}" for name in settings.of_recordings)
        remedy = f"Leave out {names}"
        remedy += "." if "window" in settings.of_recordings else ", or cut recordings into windows with data.window."
        expected = f"windows of recordings, because of {names}"
        raise DataError(self.name, expected=expected, found=f"rows of shape {self.shape}", remedy=remedy)

    def suited(self, spec: InputSpec) -> "Rows":
        """Return the same source, read as an encoder reads its inputs; rows of plain numbers stay unchanged.

        Raises DataError if the source lacks a column, or if a column has another kind of values.
        """
        if self.reopen is None or (self.columns, self.transform) == (spec.columns, spec.transform):
            return self
        return self.reopen(spec.settings, spec)

    def with_previews(self) -> "Rows":
        """Return the same rows with a preview of each; rows without pictures stay unchanged."""
        if self.read_with_previews is None:
            return self
        return replace(self, read=self.read_with_previews, origin=None).measured_from(self.origin)

    def measured_from(self, origin: Origin) -> "Rows":
        """Return the same rows minus `origin`, subtracted in float64; it replaces an earlier origin."""
        step = np.zeros(self.width) if origin is None else origin
        step = step if self.origin is None else step - self.origin
        if not step.any():
            return self

        def read(size: int) -> Iterator[Chunk]:
            for chunk in self.read(size):
                yield replace(chunk, inputs=relative(chunk.inputs, step))

        return replace(self, read=read, origin=origin)

    @property
    def needs_float64(self) -> bool:
        """Whether the source's values have a type that float32 cannot represent."""
        return not np.can_cast(self.dtype, np.float32)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the source's values; float32 if there is no row."""
        first = next(self.read(1), None)
        return np.dtype(np.float32) if first is None else first.inputs.dtype

    def chunks(self, size: int | None = None, dtype: type[Number] = np.float32) -> Iterator[Chunk]:
        """Yield every row once, in order, at most `size` rows at a time.

        `dtype`: the type of the inputs; float64 and integers keep the precision that float32 loses.

        Raises DataError if the source is empty or damaged, or if a value is infinite, or NaN without `gaps`; the error
        names the row (counted from 0) and the column.
        """
        if self.count < 1 or self.width < 1:
            found = f"{self.count} rows of shape {self.shape}"
            raise DataError(self.name, expected="at least one row and one column", found=found)
        size = size or max(1, CHUNK_BYTES // (4 * self.width))
        count = 0
        for chunk in self.read(size):
            raw = chunk.inputs
            inputs = relative(raw, None) if dtype is np.float32 else raw.astype(dtype, copy=False)
            self._check_finite(inputs, count)
            count += len(inputs)
            yield replace(chunk, inputs=inputs)
        if count != self.count:
            remedy = "The file is damaged, or changed while it was read: read it again."
            raise DataError(self.name, expected=f"{self.count} rows", found=f"{count}", remedy=remedy)

    def _check_finite(self, inputs: NDArray[Any], first: int) -> None:
        bad = np.isinf(inputs) if self.gaps else ~np.isfinite(inputs)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            place = f"{self.name}, row {first + row}, column {self.columns[column].name if self.columns else column}"
            found = "a missing value or NaN" if np.isnan(inputs[row, column]) else "infinity or too large a number"
            raise DataError(place, "a finite number that fits float32", found, remedy="Correct or remove the row.")


def evenly(count: int, most: int) -> Integers:
    """Return at most `most` of the numbers 0 to count - 1, ascending and evenly spaced."""
    return np.linspace(0, max(0, count - 1), min(count, most)).astype(np.int64)


def spread(count: int, most: int, series: bool) -> Integers:
    """Return at most `most` of the numbers 0 to count - 1: evenly spaced, or for windows of recordings the first.

    A window overlaps the next window. If some windows are held out, their neighbors must be held out too.
    """
    return np.arange(min(count, most)) if series else evenly(count, most)


def sampled(count: int, most: int, seed: int) -> Integers:
    """Return at most `most` of the numbers 0 to count - 1, ascending, drawn uniformly at random."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def read_sample(
    rows: Rows, max_rows: int, seed: int, advance: Callable[[int], None] = lambda n: None
) -> tuple[Floats, list[Any]]:
    """Read all rows, or a uniform random sample if there are more than `max_rows`; returns the same as `read_at`."""
    return read_at(rows, sampled(rows.count, max_rows, seed), advance)


def read_at(
    rows: Rows,
    keep: Integers,
    advance: Callable[[int], None] = lambda n: None,
    dtype: type[Number] = np.float32,
    note: Callable[[Chunk], Sequence[Any]] = Chunk.labels,
) -> tuple[NDArray[Any], list[Any]]:
    """Return the rows at the ascending positions `keep`, (n, width), and a note on each.

    `note` returns the notes on all rows of a chunk. By default these are the labels, None for unlabeled rows.
    """
    inputs = np.empty((len(keep), rows.width), dtype)
    notes: list[Any] = []
    first = 0
    for chunk in rows.chunks(dtype=dtype):
        start, stop = np.searchsorted(keep, [first, first + len(chunk.inputs)])
        picked = keep[start:stop] - first
        inputs[start:stop] = chunk.inputs[picked]
        found = note(chunk) if len(picked) else []
        notes += [found[i] for i in picked]
        first += len(chunk.inputs)
        advance(len(chunk.inputs))
    return inputs, notes
