"""Read a sheet of an Excel workbook (.xlsx): the first sheet, or the sheet that `FILE.xlsx#SHEET` names.

If all cells of a column have one type, the column has this type. A column with text is read like a column of a text
file, so `NA` among numbers is a missing value.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookalike.training.errors import DataError
from lookalike.training.rows.csv_kinds import Tally, convert
from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.typed_table import TypedFile

__all__ = ["excel_file"]

MAX_BYTES = 1 << 30
"""The greatest size of an uncompressed workbook; a sheet is read into memory."""
MAX_CELLS = 1 << 26
"""The most cells of a sheet, rows times columns: the reader needs memory for each cell, also for empty cells between
two cells that are far apart. A workbook of `MAX_BYTES` has fewer cells with values."""
_CELL = re.compile(rb"""<(?:\w+:)?c\s[^<>]*?\br=["']([A-Z]{1,3})(\d{1,7})["'][^<>]*(?<!/)>""")
_LONGEST = 1 << 12
"""The most bytes of a cell's XML tag."""


def excel_file(source: TableFile) -> TypedFile:
    """Return the schema, the count and the reader of a sheet; its first row that is not empty has the column names.

    Raises DataError if the workbook is damaged, has too large a sheet, or no sheet of that name.
    """
    header, *rows = _cells(source)
    names = [_text(name) or "" for name in header]
    if "" in names:
        found = f"no name for column {names.index('')}"
        remedy = "The first row of the sheet must have the column names."
        raise DataError(str(source.path), expected="a name for each column", found=found, remedy=remedy)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    arrays = [_column(source.path, name, list(cells)) for name, cells in zip(names, columns, strict=True)]
    table = pa.table(arrays, names=names)

    def read(size: int, names: list[str] | None) -> Iterator[pa.RecordBatch]:
        yield from (table if names is None else table.select(names)).to_batches(max_chunksize=size)

    return TypedFile(source, table.schema, len(table), read)


def _cells(source: TableFile) -> list[list[Any]]:
    """Return the rows of the sheet that are not empty; at least the header."""
    try:
        import python_calamine as calamine
    except ImportError as error:
        remedy = "Run `pip install 'lookalike[excel]'`."
        found = "that python-calamine is not installed"
        raise DataError(str(source.path), "the extra `excel` for workbooks", found=found, remedy=remedy) from error
    _check_size(source.path)
    try:
        book = calamine.CalamineWorkbook.from_path(str(source.path))
        if source.sheet and source.sheet not in book.sheet_names:
            found, expected = repr(source.sheet), f"one of the sheets {', '.join(book.sheet_names)}"
            raise DataError(str(source.path), expected=expected, found=found)
        sheet = book.get_sheet_by_name(source.sheet) if source.sheet else book.get_sheet_by_index(0)
        rows: list[list[Any]] = sheet.to_python(skip_empty_area=True)
    except (calamine.CalamineError, OSError, IndexError) as error:
        raise DataError(str(source.path), expected="a readable workbook", found=str(error)) from error
    rows = [row for row in rows if any(cell != "" for cell in row)]
    if not rows:
        raise DataError(str(source.path), expected="a row of column names", found="an empty sheet")
    return rows


def _check_size(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > MAX_BYTES:
                expected = f"a workbook of at most {MAX_BYTES:,} bytes, uncompressed"
                raise DataError(str(path), expected=expected, found=f"{size:,}", remedy="Save the sheet as .csv.")
            for name in archive.namelist():
                if name.startswith("xl/worksheets/") and name.lower().endswith(".xml"):
                    _check_cells(path, archive, name)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DataError(str(path), expected="an .xlsx workbook", found=str(error)) from error


def _check_cells(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Refuse a sheet with cells so far from the first that the reader would need too much memory."""
    rows, columns, rest = 0, 0, b""
    with archive.open(name) as sheet:
        while data := sheet.read(1 << 20):
            rest += data
            for letters, row in _CELL.findall(rest):
                rows = max(rows, int(row))
                columns = max(columns, _number(letters.decode()))
            rest = rest[-_LONGEST:]
    if rows * columns > MAX_CELLS:
        found = f"{rows:,} rows and {columns:,} columns in {name}"
        remedy = "Delete the cells that are far from the others, or save the sheet as .csv."
        raise DataError(str(path), expected=f"sheets of at most {MAX_CELLS:,} cells", found=found, remedy=remedy)


def _number(letters: str) -> int:
    """Return the number of a column, from 1: A is 1, Z is 26, AA is 27."""
    return sum((ord(letter) - 64) * 26**place for place, letter in enumerate(reversed(letters)))


def _column(path: Path, name: str, cells: list[Any]) -> pa.Array:
    """Return the cells with one type; empty cells are null."""
    values = [None if cell == "" else cell for cell in cells]
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int, float}:
        whole = all(value is None or (value == int(value) and abs(value) < 2**53) for value in values)
        return pa.array(values, pa.int64() if whole else pa.float64(), safe=False)
    if len(kinds) == 1 and kinds <= {bool, datetime, date, time, timedelta}:
        return pa.array(values)
    if kinds <= {datetime, date}:
        return pa.array([_midnight(value) for value in values], pa.timestamp("us"))
    texts = pa.array([_text(value) for value in values], pa.string())
    tally = Tally(".")
    tally.add(texts)
    kind = tally.kind() if name not in {"id", "label"} and tally.fits(tally.kind()) else pa.string()
    return convert(texts, kind, (path, name), 0)


def _midnight(value: Any) -> Any:
    return datetime.combine(value, time()) if type(value) is date else value


def _text(value: Any) -> str | None:
    """Return a cell as text; a whole number has no fraction, because Excel stores every number as a float."""
    if value is None or value == "":
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
