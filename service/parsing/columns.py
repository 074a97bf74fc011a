"""Rows of a table in a request: JSON with texts, nulls and names, or codes in an .npy, to raw rows.

A row may be a part of a row: an object that leaves fields out, or has null. The encoder knows a missing value of each
column.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.service.errors import RequestError, TooLargeError, truncate_repr
from lookalike.training.array_types import Doubles, Floats
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.tables.columns import CODE, PARSED, TEXT_PARTS, TIME_PARTS, Column, fields_of
from lookalike.training.tables.field_parts import code_texts, encode_parts
from lookalike.training.tables.origin import minus_base

__all__ = ["TableInputs"]

MAX_TEXT, MAX_TEXTS = 1 << 20, 1 << 24
"""Characters that one text, and all texts of a column in a call, may have if they are hashed: a third of a second for
each million."""
_NUMBER: set[type] = {int, float, type(None)}
_TEXT: set[type] = {str, type(None)}
_KINDS: dict[str, tuple[set[type], str]] = {
    "numeric": (_NUMBER, "a number, or null for a missing value"),
    "boolean": (_NUMBER | {bool}, "true or false, or null for a missing value"),
    "categorical": (_TEXT, "text, or null for a missing value"),
}
_TIME = (_TEXT, "a date or a time, such as 2024-03-31 or 2024-03-31T01:30, or null for a missing value")
_PARTS: dict[str, tuple[set[type], str]] = {
    **dict.fromkeys(TIME_PARTS, _TIME),
    **dict.fromkeys(TEXT_PARTS, _KINDS["categorical"]),
    PARSED: (_TEXT | _NUMBER, "a number, also as text, or null for a missing value"),
    CODE: _KINDS["numeric"],
}


@dataclass(frozen=True)
class TableInputs:
    """The columns that an encoder was trained on, and the fields of a row that they are of."""

    columns: tuple[Column, ...]

    @staticmethod
    def of(encoder: RowEncoder) -> "TableInputs | None":
        """The columns of an encoder of tables; None for any other encoder."""
        return TableInputs(encoder.columns) if encoder.columns else None

    @cached_property
    def fields(self) -> dict[str, list[int]]:
        """The fields of a row, in order, each with the positions of its columns."""
        return fields_of(self.columns)

    @cached_property
    def numeric(self) -> bool:
        """Whether all columns are numbers of a row, so that a row may be plain numbers."""
        return all(column.kind == "numeric" and not column.part and not column.base for column in self.columns)

    def decode(self, rows: list[Any], at: str) -> Doubles:
        """Lists in the fields' order, or objects by the fields' names -> (n, width), NaN if missing or unknown.

        `at`: the field of row {}, for errors.
        Raises RequestError, which names the row and the column.
        """
        lists = [self._values(row, at.format(number)) for number, row in enumerate(rows)]
        decoded = np.empty((len(rows), len(self.columns)))  # (n, width)
        for places, values in zip(self.fields.values(), zip(*lists, strict=True), strict=True):
            decoded[:, places] = _decode_field([self.columns[place] for place in places], values, at)
        return decoded

    def minus_bases(self, rows: NDArray[Any]) -> NDArray[Any]:
        """(n, width) numbers of any type -> the same minus the columns' bases."""
        bases = {place: column.base for place, column in enumerate(self.columns) if column.base}
        if not bases:
            return rows
        decoded = rows.astype(np.float64)
        for place, base in bases.items():
            decoded[:, place] = minus_base(rows[:, place], base)
        return decoded

    def used(self, rows: Floats) -> list[list[str] | None] | None:
        """The fields that are known in each of (n, width) raw rows; None for a whole row, and if all rows are whole."""
        unknown = np.isnan(rows)  # (n, width)
        if not unknown.any():
            return None
        missing = np.stack([unknown[:, places].all(axis=1) for places in self.fields.values()], axis=1)  # (n, fields)
        names = list(self.fields)
        return [
            [name for name, gone in zip(names, row, strict=True) if not gone] if any(row) else None
            for row in missing.tolist()
        ]

    def used_by_queries(self, rows: Floats, at: str) -> list[list[str] | None] | None:
        """As `used`. Raises RequestError if nothing is known of a row, because all items would be as near to it."""
        found = self.used(rows)
        if [] in (found or []):
            raise RequestError(
                at.format((found or []).index([])),
                expected="a known value in at least one column",
                found="only missing values and unknown categories",
                remedy="A category is known if the training rows have it.",
            )
        return found

    def check_codes(self, rows: Floats, at: str) -> None:
        """Raises RequestError if a category or a boolean of (n, width) is neither one of its codes nor NaN."""
        for index, column in enumerate(self.columns):
            if column.kind == "numeric":
                continue
            codes = rows[:, index]
            wrong = np.flatnonzero(~(np.isnan(codes) | np.isin(codes, np.arange(len(column.values)))))
            if len(wrong):
                expected, found = f"a code from 0 to {len(column.values) - 1}, or NaN", f"{codes[wrong[0]]:g}"
                raise RequestError(_cell(at, int(wrong[0]), column), expected=expected, found=found)

    def _values(self, row: Any, place: str) -> list[Any]:
        if isinstance(row, dict):
            return self._values_of_object(row, place)
        if not isinstance(row, list) or len(row) != len(self.fields):
            expected = f"a list of {len(self.fields)} values, or an object with the columns' names"
            raise RequestError(place, expected=expected, found=truncate_repr(row))
        return row

    def _values_of_object(self, row: dict[str, Any], place: str) -> list[Any]:
        names = f"names of columns: {', '.join(self.fields)[:200]}"
        if unknown := sorted(row.keys() - self.fields.keys()):
            raise RequestError(place, expected=names, found=truncate_repr(unknown[0]))
        if not row:
            raise RequestError(place, expected=f"one or more {names}", found="an empty object")
        return [row.get(name) for name in self.fields]


def _decode_field(columns: list[Column], values: tuple[Any, ...], at: str) -> Doubles:
    """(n, columns) numbers or codes of one field's values."""
    column = columns[0]
    types, expected = _PARTS[column.part] if column.part else _KINDS[column.kind]
    if not set(map(type, values)) <= types:
        wrong = next(number for number, value in enumerate(values) if type(value) not in types)
        raise RequestError(_cell(at, wrong, column), expected=expected, found=truncate_repr(values[wrong]))
    if column.part in TEXT_PARTS:
        _check_texts(columns, values, at)
    if column.part and column.part != CODE:
        return _parts(columns, values, at, expected)
    if column.kind == "categorical":
        return np.array([column.codes.get(value, np.nan) for value in _names(column, values)])[:, None]
    if column.base:
        values = tuple(value if value is None else value - column.base for value in values)  # in integers
    numbers = np.array(values, np.float64)  # None becomes NaN
    if column.kind == "boolean" and not np.isin(numbers[~np.isnan(numbers)], (0, 1)).all():
        wrong = next(number for number, value in enumerate(values) if value not in {0, 1, None})
        raise RequestError(_cell(at, wrong, column), expected=expected, found=truncate_repr(values[wrong]))
    return numbers[:, None]


def _names(column: Column, values: tuple[Any, ...]) -> list[Any]:
    """The names of categories; numbers have names, too."""
    if column.part != CODE:
        return list(values)
    names: list[Any] = code_texts(pa.array([None if value is None else float(value) for value in values])).to_pylist()
    return names


def _check_texts(columns: list[Column], values: tuple[Any, ...], at: str) -> None:
    """Raises TooLargeError if texts take too long to hash."""
    total = 0
    for row, value in enumerate(values):
        total += (size := len(value or ""))
        if size > MAX_TEXT:
            found = f"{size} characters"
            raise TooLargeError(_cell(at, row, columns[0]), expected=f"at most {MAX_TEXT} characters", found=found)
    if total > MAX_TEXTS:
        expected = f"at most {MAX_TEXTS} characters in the texts of a call"
        raise TooLargeError(columns[0].field[:64], expected=expected, found=f"{total} characters")


def _parts(columns: list[Column], values: tuple[Any, ...], at: str, expected: str) -> Doubles:
    def encoded(some: tuple[Any, ...]) -> Doubles:
        texts = [value if value is None else str(value) for value in some]
        return encode_parts(pa.array(texts, pa.large_string()), [column.part for column in columns])

    try:
        return encoded(values)
    except ValueError:
        wrong = next(number for number, value in enumerate(values) if _fails(encoded, value))
        raise RequestError(
            _cell(at, wrong, columns[0]), expected=expected, found=truncate_repr(values[wrong])
        ) from None


def _fails(encoded: Callable[[tuple[Any, ...]], Doubles], value: Any) -> bool:
    try:
        encoded((value,))
    except ValueError:
        return True
    return False


def _cell(at: str, row: int, column: Column) -> str:
    return f"{at.format(row)}.{column.field[:64]}"
