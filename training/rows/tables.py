"""Tables: .parquet and .csv, read in record batches.

The columns `id` and `label` are what they say. Every column of numbers or booleans, and of text with few distinct
values, is part of the input (`training.rows.coding`); text travels in the payload, and so does all the rest.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from training.columns import CATEGORIES, Column
from training.errors import DataError
from training.rows.base import Chunk, Rows
from training.rows.coding import APART, census, code, find_columns, is_finer, is_number, is_text, match_columns

__all__ = ["open_csv", "open_parquet"]

Columns = tuple[Column, ...]
Batches = Callable[[int], Iterator[pa.RecordBatch]]

_BATCH = 1 << 16
_SNIFFED = 1_000
_CSV_PLACE = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)")
_BLOCK = 1 << 24
"""Bytes; a line must fit."""
_NAMING_ROWS = pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK)
"""With threads, Arrow's errors name no row."""
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class _Opened:
    """A table whose columns are known."""

    path: Path
    schema: pa.Schema
    count: int
    batches: Batches


def open_parquet(path: Path, columns: Columns | None = None, categories: int = CATEGORIES) -> Rows:
    """A Parquet file, read by row groups.

    Args:
        columns: an encoder's, to be found by name, or none, for an encoder that knows no names; None finds them.
        categories: text with at most so many distinct values is part of the input.
    """

    def batches(size: int, names: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        with pa_parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=size, columns=names)

    try:
        with pa_parquet.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
        _check_names(path, schema.names)
        texts = [field.name for field in schema if is_text(field.type)] if columns is None else []
        values = census(batches(_BATCH, texts), texts, categories, count=False)[1] if texts else {}
    except _BROKEN as error:
        raise _broken(path, error) from error
    return _rows(_Opened(path, schema, count, batches), columns, values, partial(open_parquet, path), categories)


def open_csv(path: Path, columns: Columns | None = None, categories: int = CATEGORIES) -> Rows:
    """A comma-separated file with a header line; it is read once to count and check its rows.

    `columns` and `categories` are as for `open_parquet`.
    """
    names: list[str] = []
    try:
        with pa_csv.open_csv(path, read_options=_NAMING_ROWS) as file:
            names = file.schema.names
            _check_names(path, names)
            _check_header(path, names)
            sniffed = next(iter(file), pa.RecordBatch.from_pylist([], file.schema))
        known = {column.name: column for column in columns or ()}
        schema = pa.schema([(field.name, _csv_type(field, sniffed, known)) for field in sniffed.schema])
        options = pa_csv.ConvertOptions(column_types=schema, strings_can_be_null=True)

        def batches(size: int, reading: pa_csv.ReadOptions | None = None) -> Iterator[pa.RecordBatch]:
            reading = reading or pa_csv.ReadOptions(block_size=_BLOCK)
            with pa_csv.open_csv(path, read_options=reading, convert_options=options) as file:
                for batch in file:
                    for start in range(0, len(batch), size):
                        yield batch.slice(start, size)

        texts = [] if columns is not None else _texts(sniffed.schema, schema)
        count, values = census(batches(_BATCH, _NAMING_ROWS), texts, categories)
    except _BROKEN as error:
        raise _broken_row(path, error, names) from error
    return _rows(_Opened(path, schema, count, batches), columns, values, partial(open_csv, path), categories)


def _csv_type(field: pa.Field, sniffed: pa.RecordBatch, known: dict[str, Column]) -> pa.DataType:
    """Integers may turn out to be fractions further down; ids and labels stay as they are written.

    A column that is mostly numbers is one of numbers: its other values are mistakes, not text.
    """
    if field.name in known:
        return {"numeric": pa.float64(), "boolean": pa.bool_(), "categorical": pa.string()}[known[field.name].kind]
    if field.name in APART or pa.types.is_binary(field.type):
        return pa.string()
    if pa.types.is_string(field.type):
        values = [v for v in sniffed.column(field.name).slice(0, _SNIFFED).to_pylist() if v]
        return pa.float64() if 2 * sum(map(_reads_as_number, values)) > len(values) else field.type
    if not is_number(field.type):  # payload: dates and empty values may turn out to be any text further down
        return pa.string()
    return field.type if pa.types.is_boolean(field.type) else pa.float64()


def _texts(sniffed: pa.Schema, schema: pa.Schema) -> list[str]:
    """The columns that may hold categories: text, but not what began as dates and times."""
    return [f.name for f in schema if is_text(f.type) and not pa.types.is_temporal(sniffed.field(f.name).type)]


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows, and no file means


def _check_names(path: Path, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise DataError(str(path), expected="column names that differ", found=str(names))
    for name in names:
        if name not in APART and name.strip().lower() in APART:
            raise DataError(
                str(path),
                expected=f"the column {name.strip().lower()}, which is no input, under that name",
                found=repr(name),
                remedy="Rename it; or call it otherwise where it is meant to be learnt from.",
            )


def _check_header(path: Path, names: list[str]) -> None:
    """Of a .csv: does its first line look like a line of names?"""
    if "" in names:
        raise DataError(
            str(path),
            expected="a name for each column",
            found=f"none for column {names.index('')}",
            remedy="Name it, or leave it out: pandas writes its index so, unless it is told index=False.",
        )
    if len(names) == 1 and (others := {";", "\t", "|"} & set(names[0])):
        raise DataError(str(path), expected="columns separated by commas", found=repr(others.pop()))
    if 2 * sum(map(_reads_as_number, names)) > len(names):
        raise DataError(str(path), expected="a first line of column names", found=", ".join(names[:4]))


def _rows(
    opened: _Opened,
    given: Columns | None,
    values: dict[str, tuple[str, ...]],
    reopen: Callable[..., Rows],
    categories: int,
) -> Rows:
    path = opened.path
    columns = _inputs(opened, given, values)
    numbers = {column.name for column in columns if column.kind != "categorical"}
    others = [name for name in opened.schema.names if name not in numbers | {"id"}]

    def read(size: int) -> Iterator[Chunk]:
        first = 0
        try:
            for batch in opened.batches(size):
                _check_ids(path, batch, first)
                yield _chunk(path, batch, columns, others, first)
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
        gaps=given != (),
        categories=categories if given is None else None,
        reopen=reopen,
    )


def _inputs(opened: _Opened, given: Columns | None, values: dict[str, tuple[str, ...]]) -> Columns:
    if given:
        match_columns(opened.path, opened.schema, given)
        return given
    if not opened.count:
        raise DataError(str(opened.path), expected="at least one row", found="none below the header")
    if not (columns := find_columns(opened.schema, values)):
        raise DataError(
            str(opened.path),
            expected="at least one column of numbers or of categories, separated by commas",
            found=f"columns {opened.schema.names}",
        )
    return columns


def _check_ids(path: Path, batch: pa.RecordBatch, first: int) -> None:
    if "id" in batch.schema.names and batch.column("id").null_count:
        row = first + batch.column("id").to_pylist().index(None)
        raise DataError(f"{path}, row {row}, column id", expected="an id", found="a missing value")


def _chunk(path: Path, batch: pa.RecordBatch, columns: Columns, others: list[str], first: int) -> Chunk:
    kinds = [batch.schema.field(column.name).type for column in columns if column.kind == "numeric"]
    dtype = np.float64 if any(map(is_finer, kinds)) else np.float32
    inputs = np.empty((len(batch), len(columns)), dtype)  # (rows, columns)
    for number, column in enumerate(columns):
        inputs[:, number] = code(batch.column(column.name), column, str(path), first)
    ids = [str(i) for i in range(first, first + len(batch))]
    if "id" in batch.schema.names:
        ids = [str(value) for value in batch.column("id").to_pylist()]
    return Chunk(ids, inputs, _payloads(batch.select(others)) if others else [{} for _ in ids])


def _payloads(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    columns = [_plain(column) for column in batch.columns]
    payloads: list[dict[str, Any]] = pa.record_batch(columns, names=batch.schema.names).to_pylist()
    return payloads


def _plain(column: pa.Array) -> pa.Array:
    """Times as the text Arrow writes, for they may be finer or farther than Python's; NaN as missing."""
    if pa.types.is_temporal(column.type):
        return column.cast(pa.string())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def _broken_row(path: Path, error: Exception, names: list[str]) -> DataError:
    """Arrow counts lines from 1 and the header is the first; rows are counted from 0."""
    if not (told := _CSV_PLACE.match(str(error))):
        return _broken(path, error)
    column, line, found = told.groups()
    return DataError(
        f"{path}, row {int(line) - 2}" + (f", column {names[int(column)]}" if column else ""),
        expected="as many values as the header has names, each of its column's kind",
        found=found,
        remedy="Mend or remove the row.",
    )


def _broken(path: Path, error: Exception) -> DataError:
    kind = path.suffix.lstrip(".")
    return DataError(
        str(path),
        expected=f"a readable {kind} file",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
    )
