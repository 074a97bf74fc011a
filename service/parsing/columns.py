"""Rows of a table in a request: JSON with texts, nulls and names, or codes in an .npy, to raw rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike.service.errors import RequestError, truncate_repr
from lookalike.training.array_types import Doubles, Floats
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.tables.columns import Column

__all__ = ["TableInputs"]

_TYPES: dict[str, tuple[set[type], str]] = {
    "numeric": ({int, float, type(None)}, "a number, or null for a missing value"),
    "boolean": ({bool, int, float, type(None)}, "true or false, or null for a missing value"),
    "categorical": ({str, type(None)}, "text, or null for a missing value"),
}


@dataclass(frozen=True)
class TableInputs:
    """The columns that an encoder was trained on.

    Attributes:
        optional: the columns that had missing values in training; an object may leave them out.
    """

    columns: tuple[Column, ...]
    optional: frozenset[str]

    @staticmethod
    def of(encoder: RowEncoder) -> "TableInputs | None":
        """The columns of an encoder of tables; None for any other encoder."""
        if not (table := encoder.preprocess.table):
            return None
        return TableInputs(table.columns, frozenset(fitted.column.name for fitted in table.fitted if fitted.missing))

    @property
    def numeric(self) -> bool:
        """Whether all columns are numeric, so that a row may be plain numbers."""
        return all(column.kind == "numeric" for column in self.columns)

    def decode(self, rows: list[Any], at: str) -> Doubles:
        """Lists in the columns' order, or objects by the columns' names -> (n, width), NaN if missing or unknown.

        `at`: the field of row {}, for errors.
        Raises RequestError, which names the row and the column.
        """
        lists = [self._values(row, at.format(number)) for number, row in enumerate(rows)]
        decoded = np.empty((len(rows), len(self.columns)))  # (n, width)
        for index, (column, values) in enumerate(zip(self.columns, zip(*lists, strict=True), strict=True)):
            decoded[:, index] = _decode_column(column, values, at)
        return decoded

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
        if not isinstance(row, list) or len(row) != len(self.columns):
            expected = f"a list of {len(self.columns)} values, or an object with the columns' names"
            raise RequestError(place, expected=expected, found=truncate_repr(row))
        return row

    def _values_of_object(self, row: dict[str, Any], place: str) -> list[Any]:
        names = [column.name for column in self.columns]
        if unknown := sorted(row.keys() - names):
            expected = f"names of columns: {', '.join(names)[:200]}"
            raise RequestError(place, expected=expected, found=truncate_repr(unknown[0]))
        for name in names:
            if name not in row and name not in self.optional:
                expected = "a value, as no training row lacked one"
                raise RequestError(f"{place}.{name[:64]}", expected=expected, found="nothing")
        return [row.get(name) for name in names]


def _decode_column(column: Column, values: tuple[Any, ...], at: str) -> Doubles:
    """(n,) numbers or codes of one column's values."""
    types, expected = _TYPES[column.kind]
    if not set(map(type, values)) <= types:
        wrong = next(number for number, value in enumerate(values) if type(value) not in types)
        raise RequestError(_cell(at, wrong, column), expected=expected, found=truncate_repr(values[wrong]))
    if column.kind == "categorical":
        return np.array([column.codes.get(value, np.nan) for value in values])
    numbers = np.array(values, np.float64)  # None becomes NaN
    if column.kind == "boolean" and not np.isin(numbers[~np.isnan(numbers)], (0, 1)).all():
        wrong = next(number for number, value in enumerate(values) if value not in {0, 1, None})
        raise RequestError(_cell(at, wrong, column), expected=expected, found=truncate_repr(values[wrong]))
    return numbers


def _cell(at: str, row: int, column: Column) -> str:
    return f"{at.format(row)}.{column.name[:64]}"
