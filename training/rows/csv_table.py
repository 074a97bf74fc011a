"""Read a .csv file as a table: once to count its rows and infer its columns, then in chunks."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Rows
from lookalike.training.rows.categories import cell_kinds, scan_categories
from lookalike.training.rows.csv_kinds import WORDS, Tally, convert
from lookalike.training.rows.csv_text import Header, read_cells, read_header
from lookalike.training.rows.tables import OpenTable, check_names, table_rows
from lookalike.training.transforms import InputSpec

__all__ = ["open_csv"]


def open_csv(path: Path, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open a comma-separated file with a header line, in UTF-8; `settings` and `spec` as in `open_rows`.

    Raises DataError if the file is not such a table, or if a cell is not of its column's kind; the error names it.
    """
    header = read_header(path)
    check_names(path, header.names, settings)
    _check_header(path, header.names)
    tallies = {name: Tally() for name in header.names if name not in {settings.id, settings.label}}
    columns = spec.columns if spec else ()
    texts = list(tallies) if spec is None else []
    count, values = scan_categories(_counted(path, header, tallies), texts, settings.categories)
    known = {name: kind for name, kind in cell_kinds(columns).items() if name in tallies}
    kinds = {name: _kind(tally, known.get(name), payload=bool(columns)) for name, tally in tallies.items()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in header.names])

    def batches(size: int) -> Iterator[pa.RecordBatch]:
        first = 0
        for cells in read_cells(path, header):
            for start in range(0, len(cells), size):
                yield _converted(path, cells.slice(start, size), schema, first + start)
            first += len(cells)

    if not all(tally.fits(kinds[name]) for name, tally in tallies.items()):
        for _ in batches(count):  # raise for the first bad cell now, before earlier rows are used
            pass
    found = {name: d for name, d in values.items() if kinds[name] == pa.string() and any(d)}
    words = {name: tally.words for name, tally in tallies.items() if tally.words and kinds[name] != pa.string()}
    notes = [note for name, tally in tallies.items() if name not in known and (note := tally.note(name))]
    opened = OpenTable(path, schema, count, batches, (*notes[:20], *([_words_line(words)] if words else [])))
    return table_rows(opened, found, settings, spec, partial(open_csv, path))


def _counted(path: Path, header: Header, tallies: dict[str, Tally]) -> Iterator[pa.RecordBatch]:
    for cells in read_cells(path, header):
        for name, tally in tallies.items():
            tally.add(cells.column(name))
        yield cells


def _converted(path: Path, cells: pa.RecordBatch, schema: pa.Schema, first: int) -> pa.RecordBatch:
    columns = [convert(cells.column(field.name), field.type, (path, field.name), first) for field in schema]
    return pa.record_batch(columns, schema=schema)


def _kind(tally: Tally, known: pa.DataType | None, *, payload: bool) -> pa.DataType:
    """Return the kind of a column: `known` for an input; a payload column with a bad cell among numbers is text."""
    if known is not None:
        return pa.int64() if known == pa.float64() and tally.kind() == pa.int64() else known
    return tally.kind() if tally.fits(tally.kind()) or not payload else pa.string()


def _words_line(words: dict[str, int]) -> str:
    counts = ", ".join(f"{count:,} of column {name}" for name, count in list(words.items())[:20])
    more = f", and more in {len(words) - 20:,} other columns" if len(words) > 20 else ""
    return f"cells that were read as missing values: {counts}{more} (the words {', '.join(WORDS)})"


def _check_header(path: Path, names: list[str]) -> None:
    """Refuse a first line that does not look like column names."""
    if "" in names:
        found = f"no name for column {names.index('')}"
        remedy = "Name the column, or leave it out: pandas writes its index like this, except with index=False."
        raise DataError(str(path), expected="a name for each column", found=found, remedy=remedy)
    if len(names) == 1 and (others := {";", "\t", "|"} & set(names[0])):
        raise DataError(str(path), expected="columns separated by commas", found=repr(others.pop()))
    if 2 * sum(map(_reads_as_number, names)) > len(names):
        raise DataError(str(path), expected="a first line of column names", found=", ".join(names[:4]))


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python allows underscores in numbers, files do not
