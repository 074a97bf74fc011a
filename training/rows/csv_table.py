"""Read text files of columns as a table: once to count the rows and infer the columns, then in chunks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Rows
from lookalike.training.rows.categories import cell_kinds, scan_categories
from lookalike.training.rows.csv_header import Header, read_header
from lookalike.training.rows.csv_kinds import WORDS, Tally, convert, settle_decimals
from lookalike.training.rows.csv_text import read_cells
from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.tables import OpenTable, check_names, table_rows
from lookalike.training.transforms import InputSpec

__all__ = ["open_csv"]


@dataclass(frozen=True)
class _TextFile:
    """A file of the table; `names` are all columns of the table, and a column that the file lacks is empty."""

    source: TableFile
    header: Header
    names: list[str]

    def cells(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows in order, every column as text."""
        constants, present = self.source.constants, set(self.header.names)
        if constants.keys() & present:
            found = f"{sorted(constants.keys() & present)} in the file and in the names of its folders"
            raise DataError(str(self.source.path), expected="each column once", found=found)
        for batch in read_cells(self.source.path, self.header):
            columns = [
                batch.column(name) if name in present else pa.array([constants.get(name)] * len(batch), pa.string())
                for name in self.names
            ]
            yield batch if self.names == self.header.names else pa.record_batch(columns, self.names)


def open_csv(
    path: Path, settings: DataConfig, spec: InputSpec | None = None, sources: tuple[TableFile, ...] | None = None
) -> Rows:
    """Open text with a header line and one delimiter; `settings` and `spec` as in `open_rows`.

    Args:
        sources: the files, if `path` is a folder. A column that only some files have is empty in the others.

    Raises:
        DataError: a file is not such a table, or a cell is not of its column's kind; the error names the file or cell.
    """
    files = _files(path, settings, sources or (TableFile(path),), trained=spec is not None)
    names = files[0].names
    decimals = {name: settings.decimal for name in names if name not in {settings.id, settings.label}}
    tallies = {name: Tally(decimal) for name, decimal in decimals.items()}
    columns = spec.columns if spec else ()
    texts = list(tallies) if spec is None else []
    count, values = scan_categories(_counted(files, tallies), texts, settings.categories)
    settle_decimals(tallies.values(), files[0].header.delimiter)
    known = {name: kind for name, kind in cell_kinds(columns).items() if name in tallies}
    kinds = {name: _kind(tally, known.get(name), payload=bool(columns)) for name, tally in tallies.items()}
    _check_units(path, tallies, kinds)
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])

    def batches(size: int) -> Iterator[pa.RecordBatch]:
        for file in files:
            first = 0
            for cells in file.cells():
                for start in range(0, len(cells), size):
                    part = cells.slice(start, size)
                    yield _converted(file.source.path, part, schema, tallies, first + start)
                first += len(cells)

    if not all(tally.fits(kinds[name]) for name, tally in tallies.items()):
        for _ in batches(count):  # raise for the first bad cell now, before earlier rows are used
            pass
    found = {name: d for name, d in values.items() if kinds[name] == pa.string() and any(d)}
    words = {name: tally.words for name, tally in tallies.items() if tally.words and kinds[name] != pa.string()}
    notes = [note for name, tally in tallies.items() if name not in known and (note := tally.note(name))]
    opened = OpenTable(path, schema, count, batches, (*notes[:20], *([_words_line(words)] if words else [])))
    return table_rows(opened, found, settings, spec, partial(open_csv, path, sources=sources))


def _files(path: Path, settings: DataConfig, sources: tuple[TableFile, ...], *, trained: bool) -> list[_TextFile]:
    """Read the header of each file."""
    headers = [read_header(source.path, settings, trained=trained) for source in sources]
    for source, header in zip(sources, headers, strict=True):
        check_names(source.path, header.names, settings)
        _check_header(source.path, header.names, settings)
    both = zip(sources, headers, strict=True)
    names = list(dict.fromkeys(name for source, header in both for name in (*header.names, *source.constants)))
    check_names(path, names, settings)
    return [_TextFile(source, header, names) for source, header in zip(sources, headers, strict=True)]


def _counted(files: list[_TextFile], tallies: dict[str, Tally]) -> Iterator[pa.RecordBatch]:
    for file in files:
        for cells in file.cells():
            for name, tally in tallies.items():
                tally.add(cells.column(name))
            yield cells


def _converted(
    path: Path, cells: pa.RecordBatch, schema: pa.Schema, tallies: dict[str, Tally], first: int
) -> pa.RecordBatch:
    columns = []
    for column in schema:
        decimal = tallies[column.name].decimal if column.name in tallies else "."
        columns.append(convert(cells.column(column.name), column.type, (path, column.name), first, decimal))
    return pa.record_batch(columns, schema=schema)


def _kind(tally: Tally, known: pa.DataType | None, *, payload: bool) -> pa.DataType:
    """Return the type of a column: `known` for an input. A payload column of numbers and other values is text."""
    if known is not None:
        return pa.int64() if known == pa.float64() and tally.kind() == pa.int64() else known
    return tally.kind() if tally.fits(tally.kind()) or not payload else pa.string()


def _check_units(path: Path, tallies: dict[str, Tally], kinds: dict[str, pa.DataType]) -> None:
    """Refuse numbers of different units in a column that an encoder reads as numbers."""
    for name, tally in tallies.items():
        if tally.is_mixed and kinds[name] in (pa.int64(), pa.float64()):
            found = ", ".join(sign or "no sign" for sign in sorted(tally.signs))
            remedy = "Convert the column to one unit."
            raise DataError(f"{path}, column {name}", "numbers with the same sign", found=found, remedy=remedy)


def _words_line(words: dict[str, int]) -> str:
    counts = ", ".join(f"{count:,} of column {name}" for name, count in list(words.items())[:20])
    more = f", and more in {len(words) - 20:,} other columns" if len(words) > 20 else ""
    return f"cells that were read as missing values: {counts}{more} (the words {', '.join(WORDS)})"


def _check_header(path: Path, names: list[str], settings: DataConfig) -> None:
    """Refuse a first line that does not look like column names."""
    if "" in names:
        found = f"no name for column {names.index('')}"
        remedy = "Name the column, or leave it out: pandas writes its index like this, except with index=False."
        raise DataError(str(path), expected="a name for each column", found=found, remedy=remedy)
    if settings.delimiter != "auto" and len(names) == 1 and (others := set(",;\t|") & set(names[0])):
        expected = f"columns with the delimiter {settings.delimiter!r}, as data.delimiter names it"
        remedy = "Leave `data.delimiter` out to detect the delimiter."
        raise DataError(str(path), expected=expected, found=repr(others.pop()), remedy=remedy)
    if 2 * sum(map(_reads_as_number, names)) > len(names):
        remedy = "Add a line of column names at the top of the file."
        raise DataError(str(path), "a first line of column names", found=", ".join(names[:4]), remedy=remedy)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python allows underscores in numbers, files do not
