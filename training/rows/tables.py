"""From a table in record batches to rows; `training.rows.parquet_table` and `training.rows.csv_table` open the files.

The columns `id` and `label` are the ids and labels of the rows. Every column of numbers or booleans, and of text with
few distinct values, is part of the input (`training.rows.categories`). Text and all other columns are in the payload.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.arrow_values import plain_column
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.categories import (
    RESERVED,
    encode_column,
    find_columns,
    match_columns,
    needs_float64,
)
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import InputSpec

__all__ = ["BROKEN", "MAX_COLUMNS", "OpenTable", "broken", "check_names", "table_rows"]

Columns = tuple[Column, ...]
Categories = dict[str, tuple[str, ...]]
Batches = Callable[[int], Iterator[pa.RecordBatch]]

MAX_COLUMNS = 65_536
"""The greatest width of a layer of a model."""
BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class OpenTable:
    """A table with a known schema; `notes` as in `Rows`."""

    path: Path
    schema: pa.Schema
    count: int
    batches: Batches
    notes: tuple[str, ...] = ()


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
    opened: OpenTable,
    values: Categories,
    settings: DataConfig,
    spec: InputSpec | None,
    reopen: Callable[[DataConfig, InputSpec | None], Rows],
) -> Rows:
    """Return the rows of an open table.

    Args:
        values: the distinct values of each column of categories.
        settings, spec: as in `open_rows`; the columns of the input are those of `spec`, or are detected without it.
        reopen: opens the file with other settings, or for an encoder.

    Raises:
        DataError: the table has no row, no column of numbers or categories, or not the requested columns.
    """
    requested = None if spec is None else spec.columns
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
        except BROKEN as error:
            raise broken(path, error) from error

    return Rows(
        str(path),
        (len(columns),),
        opened.count,
        False,
        read,
        columns=columns,
        gaps=requested != (),
        settings=settings if spec is None else None,
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


def broken(path: Path, error: Exception) -> DataError:
    found = next(iter(str(error).splitlines()), type(error).__name__)
    return DataError(str(path), expected=f"a readable {path.suffix.lstrip('.')} file", found=found)
