"""Read a .parquet file as a table, by its row groups."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.arrow_values import duplicate_field, is_nested, plain_column, text_of
from lookalike.training.rows.base import Rows
from lookalike.training.rows.categories import RESERVED, is_text, scan_categories
from lookalike.training.rows.pandas_index import index_columns
from lookalike.training.rows.tables import BROKEN, OpenTable, broken, check_names, table_rows
from lookalike.training.rows.vectors import open_vectors
from lookalike.training.transforms import InputSpec

__all__ = ["open_parquet"]

_BATCH = 1 << 16


def open_parquet(path: Path, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open a Parquet file, which is read by row groups; `settings` and `spec` as in `open_rows`."""
    if spec is not None and spec.vectors:
        return open_vectors(path, settings)

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
        texts = texts if spec is None else []
        most = settings.categories
        values = scan_categories(batches(_BATCH, texts), texts, most, count=False)[1] if texts else {}
    except BROKEN as error:
        raise broken(path, error) from error
    notes = [f"column {name} is the index of pandas: payload, not input" for name in sorted(index)]
    opened = OpenTable(path, schema, count, batches, tuple(notes) if spec is None else ())
    return table_rows(opened, values, settings, spec, partial(open_parquet, path))


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
