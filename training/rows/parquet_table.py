"""Read a Parquet file by its row groups."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pa_parquet

from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.tables import BROKEN, broken
from lookalike.training.rows.typed_table import TypedFile

__all__ = ["parquet_file"]


def parquet_file(source: TableFile) -> TypedFile:
    """Return the schema, the count and the reader of a Parquet file. Raises DataError if it is damaged."""

    def read(size: int, names: list[str] | None) -> Iterator[pa.RecordBatch]:
        with _parquet(source) as file:
            yield from file.iter_batches(batch_size=size, columns=names)

    try:
        with _parquet(source) as file:
            return TypedFile(source, file.schema_arrow, file.metadata.num_rows, read)
    except BROKEN as error:
        raise broken(source.path, error) from error


def _parquet(source: TableFile) -> pa_parquet.ParquetFile:
    """Open the file. The old timestamp type INT96 is read in microseconds: nanoseconds would wrap after the year 2262.

    With a pre-buffer, Arrow would keep in memory all row groups that were read.
    """
    return pa_parquet.ParquetFile(source.path, pre_buffer=False, coerce_int96_timestamp_unit="us")
