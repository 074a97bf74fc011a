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

    Args:
        at: the field of row {}, for errors.

    Raises:
        RequestError: it names the row, and the value or the column.
    """
    table = limits.table if kind == "inputs" else None
    if table and not (table.numeric and all(map(_is_plain, rows))):
        return table.decode(rows, at)
    shape = limits.shape(kind)
    values = np.empty((len(rows), math.prod(shape)))
    for number, row in enumerate(rows):
        flat = _numbers(row, shape, at.format(number))
        try:
            values[number] = flat
        except OverflowError as error:
            raise RequestError(
                at.format(number), expected="finite numbers that fit float32", found="too large an integer"
            ) from error
    return values


def _is_plain(row: Any) -> bool:
    return isinstance(row, list) and set(map(type, row)) <= _NUMBERS


def _numbers(row: Any, shape: tuple[int, ...], place: str) -> list[Any]:
    """The numbers of one row, flat."""
    flat = _flatten(row, shape)
    if flat is None:
        raise RequestError(place, expected=_expected(shape), found=_found(row))
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


def _expected(shape: tuple[int, ...]) -> str:
    flat = f"a list of {math.prod(shape)} numbers"
    return flat if len(shape) == 1 else f"{flat}, or lists of shape ({', '.join(map(str, shape))})"


def _found(row: Any) -> str:
    nested = isinstance(row, list) and any(isinstance(inner, list) for inner in row)
    return "lists of another shape" if nested else truncate_repr(row)
