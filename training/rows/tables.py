"""From a table in record batches to rows; `training.rows.parquet_table` and `training.rows.csv_table` open the files.

The columns `id` and `label` (or the columns that `data.id` and `data.label` name) are the ids and labels of the rows.
`training.rows.input_columns` chooses the input among all other columns. The payload has every column except the id, as
JSON values. If a table has more than MOST_IN_PAYLOAD columns, its payload has only the columns that are not input.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.arrow_values import plain_column
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.categories import encode_field, match_columns, needs_float64
from lookalike.training.rows.input_columns import choose_columns
from lookalike.training.rows.payloads import TablePayloads
from lookalike.training.tables.columns import TIME_PARTS, Column, fields_of
from lookalike.training.transforms import InputSpec

__all__ = [
    "BROKEN",
    "MAX_COLUMNS",
    "MOST_IN_PAYLOAD",
    "OpenTable",
    "broken",
    "check_names",
    "row_ids",
    "table_rows",
]

Columns = tuple[Column, ...]
Categories = dict[str, tuple[str, ...]]
Batches = Callable[[int], Iterator[pa.RecordBatch]]

MAX_COLUMNS = 65_536
"""The most columns of a table: the greatest width of a model's layer."""
MOST_IN_PAYLOAD = 256
"""The payload of a wider table has no input columns: each hit would carry thousands of numbers."""
MOST_ROWS = 1 << 14
"""The most rows of a chunk: their payloads may need far more memory than their inputs."""
_SCANNED = 1 << 16
BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class OpenTable:
    """A table with a known schema; `notes` as in `Rows`."""

    path: Path
    schema: pa.Schema
    count: int
    batches: Batches
    notes: tuple[str, ...] = ()


def check_names(path: Path, names: list[str], settings: DataConfig) -> None:
    """Raise DataError for too many columns, a duplicate name, or a name that is nearly the id's or the label's name."""
    if len(names) > MAX_COLUMNS:
        remedy = "Leave columns out, or save the numbers as an .npy array."
        raise DataError(str(path), f"at most {MAX_COLUMNS:,} columns", found=f"{len(names):,}", remedy=remedy)
    if (duplicate := next((name for name, times in Counter(names).items() if times > 1), None)) is not None:
        raise DataError(str(path), expected="unique column names", found=f"{duplicate!r} at least twice")
    reserved = {settings.id, settings.label}
    for name in names:
        if name not in reserved and name.strip().lower() in reserved:
            expected = f"the exact column name {name.strip().lower()!r}"
            remedy = (
                "Rename the column: to this exact name if it has ids or labels, which are never input; else to another."
            )
            raise DataError(str(path), expected=expected, found=repr(name), remedy=remedy)


def table_rows(
    opened: OpenTable,
    values: Categories,
    settings: DataConfig,
    spec: InputSpec | None,
    reopen: Callable[[DataConfig, InputSpec | None], Rows],
) -> Rows:
    """Return the rows of an open table.

    Args:
        values: the distinct values of each column of categories.
        settings, spec: as in `open_rows`; `spec` names the input columns, and without it they are detected.
        reopen: opens the file with other settings, or for an encoder.

    Raises:
        DataError: the table has no row or no input column, or lacks a column of `spec`.
    """
    path, names = opened.path, opened.schema.names
    columns, notes = _inputs(opened, spec, values, settings)
    fields = {column.field for column in columns}
    payload = [name for name in names if name != settings.id]
    if len(payload) > MOST_IN_PAYLOAD:
        payload = [name for name in payload if name not in fields]
        notes.append(f"the payload has no input columns, because the table has more than {MOST_IN_PAYLOAD} columns")
    label = settings.label if settings.label in names else ""

    def read(size: int) -> Iterator[Chunk]:
        for batch, first in _numbered(opened, min(size, MOST_ROWS)):
            ids = row_ids(path, batch, settings.id, first)
            payloads = TablePayloads(batch, payload, label, (str(path), first))
            yield Chunk(ids, _encoded(path, batch, columns, first), payloads)

    def read_ids() -> Iterator[list[str]]:
        for batch, first in _numbered(opened, _SCANNED):
            yield row_ids(path, batch, settings.id, first)

    return Rows(
        str(path),
        (len(columns),),
        opened.count,
        False,
        read,
        columns=columns,
        gaps=spec is None or spec.columns != (),
        settings=settings if spec is None else None,
        reopen=reopen,
        notes=(*opened.notes, *notes),
        ids=read_ids if settings.id in names else None,
    )


def _inputs(
    opened: OpenTable, spec: InputSpec | None, values: Categories, settings: DataConfig
) -> tuple[Columns, list[str]]:
    """Return the input columns, and notes about the choice."""
    path = str(opened.path)
    if spec is not None and spec.columns:
        match_columns(opened.path, opened.schema, spec.columns)
        return spec.columns, []
    if not opened.count:
        raise DataError(path, expected="at least one row", found="no row below the header")
    _check_roles(path, opened.schema.names, settings)
    batches = (batch for batch, _ in _numbered(opened, _SCANNED))
    columns, notes = choose_columns(path, opened.schema, batches, values, settings)
    if not columns:
        expected = "at least one column of numbers, times or categories"
        raise DataError(path, expected=expected, found=f"columns {opened.schema.names}", remedy=" ".join(notes))
    return columns, notes


def _check_roles(path: str, names: list[str], settings: DataConfig) -> None:
    """Refuse a missing column that a setting names, and a column `label` beside the column that has the labels."""
    for role, default in (("id", "id"), ("label", "label")):
        name = getattr(settings, role)
        if name != default and name not in names:
            expected = f"a column of {path}: {', '.join(names)[:1_000]}"
            raise DataError(f"data.{role}", expected=expected, found=repr(name))
    if settings.label != "label" and "label" in names:
        remedy = "Rename the column `label`: the payload has the labels under this name."
        raise DataError(path, expected=f"the labels in {settings.label!r} only", found="a column label", remedy=remedy)


def _numbered(opened: OpenTable, size: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield all batches, each with the number of its first row."""
    first = 0
    try:
        for batch in opened.batches(size):
            yield batch, first
            first += len(batch)
    except BROKEN as error:
        raise broken(opened.path, error) from error


def _encoded(path: Path, batch: pa.RecordBatch, columns: Columns, first: int) -> NDArray[np.floating]:
    """(rows, columns) numbers and codes; float64 if float32 may not hold them."""
    fields = fields_of(columns)
    wide = any(
        needs_float64(batch.schema.field(name).type)
        for name, places in fields.items()
        if columns[places[0]].kind == "numeric" and columns[places[0]].part in {"", "parsed", *TIME_PARTS}
    )
    inputs = np.empty((len(batch), len(columns)), np.float64 if wide else np.float32)
    for name, places in fields.items():
        with np.errstate(over="ignore"):
            encoded = encode_field(batch.column(name), [columns[place] for place in places], str(path), first)
            inputs[:, places] = encoded
    return inputs


def row_ids(path: Path, batch: pa.RecordBatch, column: str, first: int) -> list[str]:
    """Return the values of the id column, or the row numbers if there is no such column."""
    if column not in batch.schema.names:
        return [str(i) for i in range(first, first + len(batch))]
    ids = plain_column(batch.column(column), str(path), column, first)
    for position, name in enumerate(ids):
        if name is None or name == "":
            found = "a missing value" if name is None else "an empty text"
            raise DataError(f"{path}, row {first + position}, column {column}", expected="an id", found=found)
    return [str(name) for name in ids]


def broken(path: Path, error: Exception) -> DataError:
    found = next(iter(str(error).splitlines()), type(error).__name__)
    kind = f"{path.suffix.lstrip('.')} file" if path.suffix else "table"
    return DataError(str(path), expected=f"a readable {kind}", found=found)
