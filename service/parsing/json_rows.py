"""Rows of JSON, value by value: nested rows, rows of a table, and the errors of wrong rows."""

import itertools
import math
from typing import Any

import numpy as np

from lookalike.service.errors import RequestError, truncate_repr
from lookalike.service.parsing.rows import RequestLimits
from lookalike.training.array_types import Doubles

__all__ = ["rows_from_json"]

_NUMBERS = {int, float}


def rows_from_json(rows: list[Any], kind: str, limits: RequestLimits, at: str) -> Doubles:
    """Rows that are flat, nested in the encoder's input shape, or of a table -> (n, width).

    `at`: the field of row {}, for errors.
    Raises RequestError, which names the row, and the value or the column.
    """
    table = limits.table if kind == "inputs" else None
    if table and not (table.numeric and all(isinstance(row, list) and set(map(type, row)) <= _NUMBERS for row in rows)):
        return table.decode(rows, at)
    shape = limits.shape(kind)
    values = np.empty((len(rows), math.prod(shape)))
    for number, row in enumerate(rows):
        try:
            values[number] = _numbers(row, shape, at.format(number))
        except OverflowError as error:
            expected, found = "finite numbers that fit float32", "too large an integer"
            raise RequestError(at.format(number), expected=expected, found=found) from error
    return values


def _numbers(row: Any, shape: tuple[int, ...], place: str) -> list[Any]:
    if (flat := _flatten(row, shape)) is None:
        expected = f"a list of {math.prod(shape)} numbers"
        if len(shape) > 1:
            expected += f", or lists of shape ({', '.join(map(str, shape))})"
        is_nested = isinstance(row, list) and any(isinstance(inner, list) for inner in row)
        found = "lists of another shape" if is_nested else truncate_repr(row)
        raise RequestError(place, expected=expected, found=found)
    if not set(map(type, flat)) <= _NUMBERS:  # as a bool is no number
        number, value = next((number, value) for number, value in enumerate(flat) if type(value) not in _NUMBERS)
        raise RequestError(place, expected="numbers", found=f"{truncate_repr(value)} at value {number}")
    return flat


def _flatten(row: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """The values of a row that is flat, or nested in the shape; None if it is neither."""
    if not isinstance(row, list):
        return None
    if not (row and isinstance(row[0], list)):
        return row if len(row) == math.prod(shape) else None
    lists = [row]
    for size in shape:
        if not all(isinstance(inner, list) and len(inner) == size for inner in lists):
            return None
        lists = list(itertools.chain.from_iterable(lists))
    return lists
