"""What every source of rows gives: a count, a shape, and checked chunks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.tables.columns import Column
from lookalike.training.tables.origin import Origin, relative

__all__ = ["CHUNK_BYTES", "Chunk", "Rows", "evenly", "read_at", "read_sample", "sampled"]

CHUNK_BYTES = 8 << 20
"""Rows are read in chunks of about this much memory as float32.

Few enough to stay in a cache, and to be allocated from memory that the process has: beyond 32 MiB, malloc asks the
kernel for new pages each time, which costs more than reading what goes there.
"""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows: their ids, their inputs (n, width), and their payloads.

    A source may read inputs of any type of number; `Rows.chunks` gives float32 or float64.
    A label, where the source has one, is `payload["label"]`. It is for judging, never for training.
    """

    ids: list[str]
    inputs: NDArray[Any]
    payloads: list[dict[str, Any]]


@dataclass(frozen=True)
class Rows:
    """A source of rows.

    Attributes:
        name: what the user calls it.
        shape: the shape of one row; `width` is its product.
        count: how many rows there are.
        pixels: whether all columns share one unit, as the pixels of a picture do.
        read: rows a chunk -> chunks in order, not checked yet, of values as they are in the source, less the origin.
        columns: what each value of a row is, where that is known: the columns of a table.
        gaps: whether a value may be missing, which is NaN.
        categories: up to how many distinct values made text a part of the input; None where that was not asked.
        origin: what is subtracted from each row (training.tables.origin); None: nothing.
        notes: lines for the user about how the source was read.
        reopen: opens the same table for an encoder's columns, or with another number of categories.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    pixels: bool
    read: Callable[[int], Iterator[Chunk]]
    columns: tuple[Column, ...] = ()
    gaps: bool = False
    categories: int | None = None
    origin: Origin = None
    notes: tuple[str, ...] = ()
    reopen: "Callable[..., Rows] | None" = field(default=None, repr=False)

    @property
    def width(self) -> int:
        return int(np.prod(self.shape))

    def with_categories(self, categories: int) -> "Rows":
        """The same table, opened with that many categories; other rows as they are."""
        if self.reopen is None or self.categories in {None, categories}:
            return self
        return self.reopen(categories=categories)

    def suited(self, columns: tuple[Column, ...]) -> "Rows":
        """The same table, opened for an encoder's columns, by name; other rows as they are.

        Raises:
            DataError: the table has not one of them, or it holds values of another kind.
        """
        if self.reopen is None or self.columns == columns:
            return self
        return self.reopen(columns=columns)

    def measured_from(self, origin: Origin) -> "Rows":
        """The same rows, less `origin`, which is subtracted in float64; nothing is subtracted twice."""
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
        """Are the source's values of a type that float32 cannot hold?"""
        first = next(self.read(1), None)
        return first is not None and not np.can_cast(first.inputs.dtype, np.float32)

    def chunks(self, size: int | None = None, dtype: type[np.float32 | np.float64] = np.float32) -> Iterator[Chunk]:
        """Every row once, in order, at most `size` rows at a time.

        Args:
            dtype: of the inputs; float64 loses nothing that the source has.

        Raises:
            DataError: the source is empty or damaged, or a value is infinite, or NaN where none may be missing;
                it names the row (counted from 0) and the column.
        """
        if self.count < 1 or self.width < 1:
            raise DataError(
                self.name, expected="at least one row and one column", found=f"{self.count} rows of shape {self.shape}"
            )
        size = size or max(1, CHUNK_BYTES // (4 * self.width))
        seen = 0
        for chunk in self.read(size):
            given = chunk.inputs
            inputs = relative(given, None) if dtype is np.float32 else given.astype(np.float64, copy=False)
            self._check_finite(inputs, seen)
            seen += len(inputs)
            yield replace(chunk, inputs=inputs)
        if seen != self.count:
            raise DataError(
                self.name,
                expected=f"{self.count} rows",
                found=f"{seen}",
                remedy="The file is damaged or was changed while it was read.",
            )

    def _check_finite(self, inputs: NDArray[Any], first: int) -> None:
        bad = np.isinf(inputs) if self.gaps else ~np.isfinite(inputs)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{self.name}, row {first + row}, column {self.columns[column].name if self.columns else column}",
                expected="a finite number that fits float32",
                found="a missing value or NaN" if np.isnan(inputs[row, column]) else "infinity or too large a number",
                remedy="Mend or remove the row.",
            )


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of 0 to count - 1, rising, that lie evenly over all."""
    return np.linspace(0, max(0, count - 1), min(count, most)).astype(np.int64)


def sampled(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of 0 to count - 1, rising, drawn evenly over all."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def read_sample(
    rows: Rows, max_rows: int, seed: int, advance: Callable[[int], None] = lambda n: None
) -> tuple[NDArray[np.float32], list[Any]]:
    """All rows, or where there are more than `max_rows`, a sample drawn evenly over the whole.

    Returns:
        inputs: (n, width) float32, in the source's order.
        labels: n entries, None where a row has no label.
    """
    return read_at(rows, sampled(rows.count, max_rows, seed), advance)


def read_at(
    rows: Rows,
    keep: NDArray[np.int64],
    advance: Callable[[int], None] = lambda n: None,
    dtype: type[np.float32 | np.float64] = np.float32,
) -> tuple[NDArray[Any], list[Any]]:
    """The rows at the positions `keep`, (n,), rising, of `dtype`; returns as `read_sample` does."""
    inputs = np.empty((len(keep), rows.width), dtype)
    labels: list[Any] = []
    first = 0
    for chunk in rows.chunks(dtype=dtype):
        start, stop = np.searchsorted(keep, [first, first + len(chunk.inputs)])
        picked = keep[start:stop] - first
        inputs[start:stop] = chunk.inputs[picked]
        labels += [chunk.payloads[i].get("label") for i in picked]
        first += len(chunk.inputs)
        advance(len(chunk.inputs))
    return inputs, labels
