"""Tables: .parquet and .csv, read in record batches.

The columns `id` and `label` are what they say. Every other column of numbers or booleans is part of
the input; the rest (strings, dates) travels in the payload.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from training.errors import DataError
from training.rows.base import Chunk, Rows

__all__ = ["open_csv", "open_parquet"]

_SNIFFED = 1_000
_CSV_PLACE = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)")
_NAMING_ROWS = pa_csv.ReadOptions(use_threads=False)
"""With threads, Arrow's errors name no row."""


def open_parquet(path: Path) -> Rows:
    """A Parquet file, read by row groups."""
    try:
        with pa_parquet.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error

    def batches(size: int) -> Iterator[pa.RecordBatch]:
        with pa_parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=size)

    return _rows(path, schema, count, batches)


def open_csv(path: Path) -> Rows:
    """A comma-separated file with a header line; it is read once to count and check its rows."""
    names: list[str] = []
    try:
        with pa_csv.open_csv(path, read_options=_NAMING_ROWS) as file:
            names = file.schema.names
            _check_names(path, names)
            sniffed = next(iter(file), pa.RecordBatch.from_pylist([], file.schema))
            schema = pa.schema([(field.name, _csv_type(field, sniffed)) for field in file.schema])
        options = pa_csv.ConvertOptions(column_types=schema, strings_can_be_null=True)

        def batches(size: int, reading: pa_csv.ReadOptions | None = None) -> Iterator[pa.RecordBatch]:
            with pa_csv.open_csv(path, read_options=reading, convert_options=options) as file:
                for batch in file:
                    for start in range(0, len(batch), size):
                        yield batch.slice(start, size)

        count = sum(len(batch) for batch in batches(1 << 20, _NAMING_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise _broken_row(path, error, names) from error
    return _rows(path, schema, count, batches)


def _csv_type(field: pa.Field, sniffed: pa.RecordBatch) -> pa.DataType:
    """Integers may turn out to be fractions further down; ids and labels stay as they are written.

    A column that is mostly numbers is one of numbers: its other values are mistakes, not text.
    """
    if field.name in {"id", "label"} or pa.types.is_binary(field.type):
        return pa.string()
    if pa.types.is_string(field.type):
        values = [v for v in sniffed.column(field.name).slice(0, _SNIFFED).to_pylist() if v]
        return pa.float64() if 2 * sum(map(_reads_as_number, values)) > len(values) else field.type
    if not _is_number(field.type):  # payload: dates and empty values may turn out to be any text further down
        return pa.string()
    return field.type if pa.types.is_boolean(field.type) else pa.float64()


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_names(path: Path, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise DataError(str(path), expected="column names that differ", found=str(names))


def _rows(path: Path, schema: pa.Schema, count: int, batches: Callable[[int], Iterator[pa.RecordBatch]]) -> Rows:
    numbers = tuple(f.name for f in schema if _is_number(f.type) and f.name not in {"id", "label"})
    others = [f.name for f in schema if f.name not in numbers and f.name != "id"]
    _check_names(path, schema.names)
    if not numbers:
        raise DataError(str(path), expected="at least one column of numbers", found=f"columns {schema.names}")

    def read(size: int) -> Iterator[Chunk]:
        first = 0
        try:
            for batch in batches(size):
                _check_ids(path, batch, first)
                yield _chunk(batch, numbers, others, first)
                first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise _broken(path, error) from error

    return Rows(str(path), (len(numbers),), count, False, read, numbers)


def _check_ids(path: Path, batch: pa.RecordBatch, first: int) -> None:
    if "id" in batch.schema.names and batch.column("id").null_count:
        row = first + batch.column("id").to_pylist().index(None)
        raise DataError(f"{path}, row {row}, column id", expected="an id", found="a missing value")


def _chunk(batch: pa.RecordBatch, numbers: tuple[str, ...], others: list[str], first: int) -> Chunk:
    inputs = np.empty((len(batch), len(numbers)), np.float32)  # (rows, columns)
    for column, name in enumerate(numbers):
        values = batch.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)  # a null becomes NaN
        with np.errstate(over="ignore"):
            inputs[:, column] = values
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


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


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
