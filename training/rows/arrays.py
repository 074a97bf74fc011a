"""Rows that are already in memory."""

import math
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.tables.columns import Column

__all__ = ["array_rows"]


def array_rows(
    inputs: NDArray[Any], name: str, *, shape: tuple[int, ...] | None = None, columns: tuple[Column, ...] = ()
) -> Rows:
    """Return the rows of (n, width) numbers, without labels; ids are their positions.

    Args:
        shape: the shape of one row; two or three dimensions mean a picture, whose columns share one unit.
        columns: the columns of a table; ignored for pictures and for column names that are not unique.

    Raises:
        DataError: `shape` does not have `width` values.
    """
    shape = shape or inputs.shape[1:]
    if math.prod(shape) != inputs.shape[1]:
        raise DataError(name, expected=f"rows of shape {shape}", found=f"rows of {inputs.shape[1]} columns")

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(inputs), size):
            part = inputs[first : first + size]
            yield Chunk([str(first + i) for i in range(len(part))], part, [{} for _ in part])

    table = len(shape) == 1 and len({column.name for column in columns}) == len(columns)
    return Rows(name, shape, len(inputs), len(shape) > 1, read, columns if table else ())
