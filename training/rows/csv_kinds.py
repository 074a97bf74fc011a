"""Infer the kind of values in each column of a .csv file from all its cells, and convert the cells.

A column is numeric if more than half of its values are numbers. In such a column, a cell that is neither a number nor a
word for a missing value is an error. Whole numbers with leading zeros are codes and stay text, as all other cells do.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Doubles
from lookalike.training.errors import DataError

__all__ = ["WORDS", "Tally", "convert"]

WORDS = ("NA", "N/A", "#N/A", "NaN", "-NaN", "null", "None", "-")
"""In a numeric or boolean column, these words mean a missing value, in upper or lower case."""
_LOWER_WORDS = pa.array([word.lower() for word in WORDS])
_FLAGS = pa.array(["true", "false"])
_BITS = pa.array(["0", "1"])
_NUMBER = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity))$"
_SIGNS = "[$€£¥%,' ]"
_PADDED = "^0[0-9]+$"


class Tally:
    """Counts the cells of a column by their contents.

    Attributes:
        words: cells that are a word for a missing value.
        values: all other cells that are not empty; `numbers` and `flags` (true or false) are counts among these.
        whole: whether all numbers are 64-bit integers.
        padded: whether a number has leading zeros.
        signed: whether a number is negative.
        nearly: values that are numbers except for a symbol such as `$`, `%` or a thousands separator; counted as
            long as all other values are numbers.
    """

    def __init__(self) -> None:
        self.words = self.values = self.numbers = self.flags = self.nearly = 0
        self.whole, self.padded, self.signed = True, False, False

    def add(self, cells: pa.Array) -> None:
        """Count more cells of the column, (n,) text."""
        if (numbers := _numbers(cells)) is None:
            cells = self._add_mixed(_trimmed(cells).drop_null())
            numbers = cells.cast(pa.float64())
        else:
            self.values += len(cells) - cells.null_count
        self.numbers += len(cells) - cells.null_count
        if self.whole:
            self._check_whole(cells, numbers)

    def kind(self) -> pa.DataType:
        """Return the type of the column's values."""
        if self.values and self.flags == self.values:
            return pa.bool_()
        if 2 * self.numbers <= self.values or (self.whole and self.padded and not self.signed):
            return pa.string()
        return pa.int64() if self.whole and self.numbers == self.values else pa.float64()

    def note(self, name: str) -> str:
        """Return a note for the user if the column looks like numbers but is text; else an empty string."""
        if self.kind() != pa.string() or not self.values or self.numbers + self.nearly < self.values:
            return ""
        if self.nearly:
            return f"column {name} is text: a number may only have digits, a point, a minus and an exponent"
        return f"column {name} is text: its whole numbers have leading zeros, as codes do"

    def fits(self, kind: pa.DataType) -> bool:
        """Whether every cell is certainly a value of the kind, or missing."""
        known = {pa.string(): self.values, pa.bool_(): self.flags}.get(kind, self.numbers)
        return known == self.values

    def _add_mixed(self, cells: pa.Array) -> pa.Array:
        """Count cells that are not all numbers, and return the numbers among them."""
        lower = pc.utf8_lower(cells)
        self.flags += _count(pc.is_in(lower, _FLAGS))
        values = cells.filter(pc.invert(pc.is_in(lower, _LOWER_WORDS)))
        self.words += len(cells) - len(values)
        numbers = values.filter(pc.match_substring_regex(values, _NUMBER))
        if len(numbers) < len(values) and self.numbers + self.nearly == self.values:
            bare = pc.replace_substring_regex(values, _SIGNS, "")
            self.nearly += _count(pc.match_substring_regex(bare, _NUMBER)) - len(numbers)
        self.values += len(values)
        return numbers

    def _check_whole(self, cells: pa.Array, numbers: pa.Array) -> None:
        values = _values(numbers)
        if (values != np.floor(values)).any():
            self.whole = False
            return
        try:
            cells.cast(pa.int64())
        except pa.ArrowInvalid:
            self.whole = False
            return
        self.signed = self.signed or bool((values < 0).any())
        self.padded = self.padded or bool(_count(pc.match_substring_regex(cells, _PADDED)))


def convert(cells: pa.Array, kind: pa.DataType, source: tuple[Path, str], first: int) -> pa.Array:
    """(n,) text -> (n,) values of a kind that `Tally.kind` returns; in numbers, empty cells and `WORDS` become null.

    `source`: the file and the column. `first`: the number of the first row. Raises DataError, with the row, for a cell
    that is not a value of the kind.
    """
    if kind == pa.string():
        return cells
    if kind == pa.bool_() or (numbers := _numbers(cells)) is None:
        cells = _trimmed(cells)
        lower = pc.utf8_lower(cells)
        cells = pc.if_else(pc.is_in(lower, _LOWER_WORDS), None, cells)
        if kind == pa.bool_():
            cells = pc.if_else(pc.is_in(lower, _FLAGS), pc.if_else(pc.equal(lower, "true"), "1", "0"), cells)
            valid = pc.is_in(cells, _BITS)
        else:
            valid = pc.match_substring_regex(cells, _NUMBER)
        _refuse_first(cells, pc.or_(pc.is_null(cells), valid), kind, source, first)
        numbers = cells.cast(pa.float64())
    return cells.cast(kind) if kind == pa.int64() else numbers.cast(kind)


def _refuse_first(cells: pa.Array, valid: pa.Array, kind: pa.DataType, source: tuple[Path, str], first: int) -> None:
    """Raise for the first cell that is not valid."""
    invalid = pc.index(valid, False).as_py()
    if invalid >= 0:
        path, column = source
        place, found = f"{path}, row {first + invalid}, column {column}", repr(cells[invalid].as_py()[:40])
        expected = "true, false, 1 or 0" if kind == pa.bool_() else "a number"
        expected += f"; or for a missing value, an empty cell or one of {', '.join(WORDS)}"
        raise DataError(place, expected=expected, found=found, remedy="Correct or remove the row.")


def _numbers(cells: pa.Array) -> pa.Array | None:
    """Return the cells as float64; None if a cell is not a number."""
    try:
        numbers = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if np.isnan(_values(numbers)).any() else numbers


def _values(numbers: pa.Array) -> Doubles:
    """Return the numbers that are not null, (m,) float64."""
    values: Doubles = (numbers.drop_null() if numbers.null_count else numbers).to_numpy()
    return values


def _trimmed(cells: pa.Array) -> pa.Array:
    cells = pc.ascii_trim_whitespace(cells)
    return pc.if_else(pc.equal(cells, ""), None, cells)


def _count(flags: pa.Array) -> int:
    return pc.sum(flags).as_py() or 0
