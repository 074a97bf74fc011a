"""Infer the kind of values in each column of a text file from all its cells, and convert the cells.

A column is numeric if more than half of its values are numbers (`csv_numbers`), all with the same decimal mark and the
same currency or percent sign. In such a column, a cell that is neither a number nor a word for a missing value is an
error. Whole numbers with leading zeros are codes and stay text, as all other cells do.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.errors import DataError
from lookalike.training.rows.csv_numbers import (
    Numbers,
    canonical,
    is_number,
    is_plain,
    numbers_of,
    plain_numbers,
    signs_of,
)

__all__ = ["WORDS", "Tally", "convert", "settle_decimals"]

WORDS = ("NA", "N/A", "#N/A", "NaN", "-NaN", "null", "None", "-")
"""In a numeric or boolean column, these words mean a missing value, in upper or lower case."""
_LOWER_WORDS = pa.array([word.lower() for word in WORDS])
_FLAGS = pa.array(["true", "false"])
_BITS = pa.array(["0", "1"])


class Tally:
    """Counts the cells of a column by their contents.

    Attributes:
        decimal: the decimal mark of the column's numbers; `auto` until `settle_decimals` chooses a mark.
        words: cells that are a word for a missing value.
        values: all other cells that are not empty; `flags` (true or false) is a count among these.
        numbers: the numbers among the values, for each decimal mark: most texts of digits are numbers with either mark.
        proof: the decimal marks that a value proves: `0.5` a point, `0,5` a comma, `1,000` neither.
        signs: the currency and percent signs; "" for a number without one.
        example: the first number with a sign or a separator.
    """

    def __init__(self, decimal: str = "auto") -> None:
        self.decimal = decimal
        self.words = self.values = self.flags = 0
        self.numbers = {".": Numbers(), ",": Numbers()}
        self.proof: set[str] = set()
        self.signs: set[str] = set()
        self.example = ""

    def add(self, cells: pa.Array) -> None:
        """Count more cells of the column, (n,) text."""
        numbers = plain_numbers(cells)
        if numbers is None:
            self._add_mixed(_trimmed(cells).drop_null())
        elif cells.null_count < len(cells):
            self.values += len(cells) - cells.null_count
            self._add_plain(cells.drop_null(), numbers)

    @property
    def read(self) -> Numbers:
        """The column's numbers with its decimal mark."""
        return self.numbers["," if self.decimal == "," else "."]

    @property
    def proven(self) -> str | None:
        """The decimal mark that this column proves; None if it proves none, or is not numeric."""
        mark = "." if "." in self.proof else ","
        return mark if mark in self.proof and 2 * self.numbers[mark].count > self.values else None

    @property
    def is_mixed(self) -> bool:
        """Whether the numbers have different units: two currencies, or a percent sign on only some numbers."""
        return len(self.signs - {""}) > 1 or {"", "%"} <= self.signs

    def kind(self) -> pa.DataType:
        """Return the type of the column's values."""
        if self.values and self.flags == self.values:
            return pa.bool_()
        read = self.read
        is_code = read.whole and read.padded and not read.signed
        if 2 * read.count <= self.values or is_code or self.is_mixed:
            return pa.string()
        return pa.int64() if read.whole and read.count == self.values else pa.float64()

    def note(self, name: str) -> str:
        """Return a note for the user on numbers that are text, or with signs or separators; else an empty string."""
        all_numbers = 0 < self.values == self.read.count
        if self.kind() == pa.string():
            if all_numbers and self.is_mixed:
                signs = ", ".join(repr(sign) if sign else "no sign" for sign in sorted(self.signs))
                return f"column {name} is text: its numbers have different units ({signs})"
            return f"column {name} is text: its whole numbers have leading zeros, as codes do" if all_numbers else ""
        mark, other = (",", ".") if self.decimal == "," else (".", ",")
        example = pa.array([self.example])
        if not self.example or self.kind() == pa.bool_() or (mark == "." and is_plain(example)[0].as_py()):
            return ""
        value = canonical(example, mark).cast(pa.float64())[0].as_py()
        is_sure = self.proof or not {".", ","} & set(self.example)
        remedy = "" if is_sure else f"; for the decimal mark {other!r} add `--set data.decimal={other}`"
        return f"column {name}: {self.example!r} is read as {value:.12g}{remedy}"

    def fits(self, kind: pa.DataType) -> bool:
        """Whether every cell is certainly a value of the kind, or missing."""
        known = {pa.string(): self.values, pa.bool_(): self.flags}.get(kind, self.read.count)
        return known == self.values

    def _add_plain(self, cells: pa.Array, numbers: pa.Array) -> None:
        """Count cells that are all plain numbers. In a column with decimal commas, `1.234` is 1234."""
        self.signs.add("")
        found = numbers_of(cells, numbers, check=self.numbers["."].whole or self.numbers[","].whole)
        self.numbers["."].add(found)
        if found.whole:
            self.numbers[","].add(found)
        elif self.decimal != "." and not (self.decimal == "auto" and "." in self.proof):
            self._add_commas(cells)

    def _add_commas(self, cells: pa.Array) -> None:
        """Count the numbers with a decimal comma among plain numbers; all others prove a decimal point."""
        commas = cells.filter(is_number(cells, ","))
        if len(commas) < len(cells):
            self.proof.add(".")
        digits = canonical(commas, ",")
        self.numbers[","].add(numbers_of(digits, digits.cast(pa.float64()), check=self.numbers[","].whole))
        self.example = self.example or _first(commas, ".")

    def _add_mixed(self, cells: pa.Array) -> None:
        """Count cells that are not all plain numbers."""
        lower = pc.utf8_lower(cells)
        self.flags += _count(pc.is_in(lower, _FLAGS))
        values = cells.filter(pc.invert(pc.is_in(lower, _LOWER_WORDS)))
        self.words += len(cells) - len(values)
        self.values += len(values)
        point, comma = is_number(values, "."), is_number(values, ",")
        either = pc.or_(point, comma)
        if not _count(either):
            return
        values, point, comma = values.filter(either), point.filter(either), comma.filter(either)
        self.signs |= signs_of(values)
        for mark, is_one, is_other in ((".", point, comma), (",", comma, point)):
            digits = canonical(values.filter(is_one), mark)
            self.numbers[mark].add(numbers_of(digits, digits.cast(pa.float64()), check=self.numbers[mark].whole))
            if _count(pc.and_not(is_one, is_other)):
                self.proof.add(mark)
        if not self.example:
            other = values.filter(pc.invert(is_plain(values)))
            self.example = other[0].as_py() if len(other) else ""


def settle_decimals(tallies: Iterable[Tally], delimiter: str) -> None:
    """Choose the decimal mark of each column whose mark is `auto`.

    A value that proves a mark decides for its column. If all these columns prove the same mark, the other columns have
    this mark too. If not, `1.000` has a decimal point, and `1,000` has a thousands separator. But if the delimiter is a
    semicolon, `1,000` has a decimal comma: programs that write decimal commas separate cells with semicolons.
    """
    tallies = list(tallies)
    proven = {tally.proven for tally in tallies} - {None}
    for tally in tallies:
        if tally.decimal == "auto":
            usual = "," if delimiter == ";" and "," in tally.example else "."
            tally.decimal = tally.proven or (usual if len(proven) != 1 else next(iter(proven)) or usual)


def convert(cells: pa.Array, kind: pa.DataType, source: tuple[Path, str], first: int, decimal: str = ".") -> pa.Array:
    """(n,) text -> (n,) values of a kind that `Tally.kind` returns; in numbers, empty cells and `WORDS` become null.

    `source`: the file and the column. `first`: the number of the first row. `decimal`: the decimal mark. Raises
    DataError, with the row, for a cell that is not a value of the kind.
    """
    if kind == pa.string():
        return cells
    numbers = None if kind == pa.bool_() else plain_numbers(cells)
    if numbers is not None and (decimal == "." or not _count(pc.match_substring(cells, "."))):
        return cells.cast(kind) if kind == pa.int64() else numbers.cast(kind)
    cells = _trimmed(cells)
    lower = pc.utf8_lower(cells)
    cells = pc.if_else(pc.is_in(lower, _LOWER_WORDS), None, cells)
    if kind == pa.bool_():
        cells = pc.if_else(pc.is_in(lower, _FLAGS), pc.if_else(pc.equal(lower, "true"), "1", "0"), cells)
        valid = pc.is_in(cells, _BITS)
    else:
        valid = is_number(cells, decimal)
    _refuse_first(cells, pc.or_(pc.is_null(cells), valid), kind, source, first)
    digits = cells if kind == pa.bool_() else canonical(cells, decimal)
    return digits.cast(kind) if kind == pa.int64() else digits.cast(pa.float64()).cast(kind)


def _refuse_first(cells: pa.Array, valid: pa.Array, kind: pa.DataType, source: tuple[Path, str], first: int) -> None:
    """Raise for the first cell that is not valid."""
    invalid = pc.index(valid, False).as_py()
    if invalid >= 0:
        path, column = source
        place, found = f"{path}, row {first + invalid}, column {column}", repr(cells[invalid].as_py()[:40])
        expected = "true, false, 1 or 0" if kind == pa.bool_() else "a number"
        expected += f"; or for a missing value, an empty cell or one of {', '.join(WORDS)}"
        raise DataError(place, expected=expected, found=found, remedy="Correct or remove the row.")


def _first(cells: pa.Array, part: str) -> str:
    """Return the first text that contains `part`; "" if there is none."""
    position = pc.index(pc.match_substring(cells, part), True).as_py()
    return "" if position < 0 else str(cells[position].as_py())


def _trimmed(cells: pa.Array) -> pa.Array:
    cells = pc.ascii_trim_whitespace(cells)
    return pc.if_else(pc.equal(cells, ""), None, cells)


def _count(flags: pa.Array) -> int:
    return pc.sum(flags).as_py() or 0
