"""Read tables in record batches: .parquet here, .csv in `training.rows.csv_table`.

The columns `id` and `label` are the ids and labels of the rows. Every column of numbers or booleans, and of text with
few distinct values, is part of the input (`training.rows.categories`). Text and all other columns are in the payload.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from lookalike.training.errors import DataError
from lookalike.training.rows.arrow_values import duplicate_field, is_nested, plain_column, text_of
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.categories import (
    RESERVED,
    encode_column,
    find_columns,
    is_text,
    match_columns,
    needs_float64,
    scan_categories,
)
from lookalike.training.rows.pandas_index import index_columns
from lookalike.training.tables.columns import CATEGORIES, Column

__all__ = ["MAX_COLUMNS", "OpenTable", "check_names", "open_parquet", "table_rows"]

Columns = tuple[Column, ...]
Categories = dict[str, tuple[str, ...]]
Batches = Callable[[int], Iterator[pa.RecordBatch]]

MAX_COLUMNS = 65_536
"""The greatest width of a layer of a model."""
_BATCH = 1 << 16
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class OpenTable:
    """A table with a known schema; `notes` as in `Rows`."""

    path: Path
    schema: pa.Schema
    count: int
    batches: Batches
    notes: tuple[str, ...] = ()


def open_parquet(path: Path, columns: Columns | None = None, categories: int = CATEGORIES) -> Rows:
    """Open a Parquet file, which is read by row groups.

    Args:
        columns: the columns of an encoder, matched by name; empty for an encoder without column names; None detects
            the columns.
        categories: text with at most this many distinct values is part of the input.
    """

    def batches(size: int, names: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        first = 0
        with _parquet(path) as file:
            for batch in file.iter_batches(batch_size=size, columns=names):
                yield _with_texts(path, batch, first)
                first += len(batch)

    try:
        with _parquet(path) as file:
            schema, count = _text_schema(file.schema_arrow), file.metadata.num_rows
        check_names(path, schema.names)
        _check_types(path, schema)
        index = index_columns(schema) - RESERVED
        texts = [field.name for field in schema if is_text(field.type) and field.name not in index]
        texts = texts if columns is None else []
        values = scan_categories(batches(_BATCH, texts), texts, categories, count=False)[1] if texts else {}
    except _BROKEN as error:
        raise _broken(path, error) from error
    notes = [f"column {name} is the index of pandas: payload, not input" for name in sorted(index)]
    opened = OpenTable(path, schema, count, batches, tuple(notes) if columns is None else ())
    return table_rows(opened, columns, values, partial(open_parquet, path), categories)


def _parquet(path: Path) -> pa_parquet.ParquetFile:
    """Open the file; in nanoseconds, the old timestamp type INT96 would wrap after the year 2262."""
    return pa_parquet.ParquetFile(path, coerce_int96_timestamp_unit="us")


def _text_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the batches of `_with_texts`."""
    kinds = [text_of(pa.nulls(0, field.type)).type for field in schema]
    return pa.schema([*zip(schema.names, kinds, strict=True)], metadata=schema.metadata)


def _with_texts(path: Path, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Return a batch with its bytes decoded to text: older Parquet writers do not mark text as text."""
    columns = list(batch.columns)
    for number, name in enumerate(batch.schema.names):
        try:
            columns[number] = text_of(columns[number])
        except pa.ArrowInvalid:
            plain_column(columns[number], str(path), name, first)  # names the row
            raise
    return pa.record_batch(columns, names=batch.schema.names)


def _check_types(path: Path, schema: pa.Schema) -> None:
    for field in schema:
        place = f"{path}, column {field.name}"
        if field.name in RESERVED and is_nested(field.type):
            raise DataError(place, expected="one value per row", found=str(field.type)[:200])
        if (duplicate := duplicate_field(field.type)) is not None:
            raise DataError(place, expected="a struct with unique field names", found=f"{duplicate!r} at least twice")


def check_names(path: Path, names: list[str]) -> None:
    """Raise DataError for too many columns, a duplicate name, or a name that is almost `id` or `label`."""
    if len(names) > MAX_COLUMNS:
        remedy = "Leave columns out, or save the numbers as an .npy array."
        raise DataError(str(path), f"at most {MAX_COLUMNS:,} columns", found=f"{len(names):,}", remedy=remedy)
    if (duplicate := next((name for name, times in Counter(names).items() if times > 1), None)) is not None:
        raise DataError(str(path), expected="unique column names", found=f"{duplicate!r} at least twice")
    for name in names:
        if name not in RESERVED and name.strip().lower() in RESERVED:
            expected = f"the exact column name {name.strip().lower()!r}"
            remedy = "Rename the column. `id` and `label` are never part of the input; input needs another name."
            raise DataError(str(path), expected=expected, found=repr(name), remedy=remedy)


def table_rows(
    opened: OpenTable, requested: Columns | None, values: Categories, reopen: Callable[..., Rows], categories: int
) -> Rows:
    """Return the rows of an open table; `requested` and `categories` as `columns` and `categories` of `open_parquet`.

    `values`: the distinct values of each column of categories. `reopen`: opens the file with other arguments.
    Raises DataError if the table has no row, no column of numbers or categories, or not the requested columns.
    """
    path = opened.path
    columns = _inputs(opened, requested, values)
    not_payload = {column.name for column in columns if column.kind != "categorical"} | {"id"}
    payload = [name for name in opened.schema.names if name not in not_payload]

    def read(size: int) -> Iterator[Chunk]:
        first = 0
        try:
            for batch in opened.batches(size):
                yield _chunk(path, batch, columns, payload, first)
                first += len(batch)
        except _BROKEN as error:
            raise _broken(path, error) from error

    return Rows(
        str(path),
        (len(columns),),
        opened.count,
        False,
        read,
        columns=columns,
        gaps=requested != (),
        categories=categories if requested is None else None,
        reopen=reopen,
        notes=opened.notes,
    )


def _inputs(opened: OpenTable, requested: Columns | None, values: Categories) -> Columns:
    path = str(opened.path)
    if requested:
        match_columns(opened.path, opened.schema, requested)
        return requested
    if not opened.count:
        raise DataError(path, expected="at least one row", found="no row below the header")
    if not (columns := find_columns(opened.schema, values)):
        expected = "at least one column of numbers or of categories, separated by commas"
        raise DataError(path, expected=expected, found=f"columns {opened.schema.names}")
    return columns


def _chunk(path: Path, batch: pa.RecordBatch, columns: Columns, payload: list[str], first: int) -> Chunk:
    kinds = [batch.schema.field(column.name).type for column in columns if column.kind == "numeric"]
    dtype = np.float64 if any(map(needs_float64, kinds)) else np.float32
    inputs = np.empty((len(batch), len(columns)), dtype)  # (rows, columns)
    for number, column in enumerate(columns):
        with np.errstate(over="ignore"):
            inputs[:, number] = encode_column(batch.column(column.name), column, str(path), first)
    return Chunk(_ids(path, batch, first), inputs, _payloads(path, batch, payload, first))


def _ids(path: Path, batch: pa.RecordBatch, first: int) -> list[str]:
    """Return the values of the column `id`, or the row numbers if there is no such column."""
    if "id" not in batch.schema.names:
        return [str(i) for i in range(first, first + len(batch))]
    ids = plain_column(batch.column("id"), str(path), "id", first)
    for position, name in enumerate(ids):
        if name is None or name == "":
            found = "a missing value" if name is None else "an empty text"
            raise DataError(f"{path}, row {first + position}, column id", expected="an id", found=found)
    return [str(name) for name in ids]


def _payloads(path: Path, batch: pa.RecordBatch, names: list[str], first: int) -> list[dict[str, Any]]:
    if not names:
        return [{} for _ in range(len(batch))]
    columns = [plain_column(batch.column(name), str(path), name, first) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _broken(path: Path, error: Exception) -> DataError:
    found = next(iter(str(error).splitlines()), type(error).__name__)
    return DataError(str(path), expected=f"a readable {path.suffix.lstrip('.')} file", found=found)
