"""Read an Arrow file (.arrow, .feather), in the file format or the stream format."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import pyarrow as pa

from lookalike.training.errors import DataError
from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.tables import BROKEN, broken
from lookalike.training.rows.typed_table import TypedFile

__all__ = ["arrow_file"]


def arrow_file(source: TableFile) -> TypedFile:
    """Return the schema, the count and the reader of an Arrow file, which is mapped into memory.

    Raises DataError if it is damaged, or in version 1 of the Feather format.
    """

    def read(size: int, names: list[str] | None) -> Iterator[pa.RecordBatch]:
        with _batches(source) as (schema, batches):
            for batch in batches:
                batch.validate(full=True)  # offsets in a damaged file may point outside of it
                kept = batch.select(schema.names if names is None else names)
                yield from (kept.slice(start, size) for start in range(0, len(kept), size))

    try:
        with _batches(source) as (schema, batches):
            return TypedFile(source, schema, sum(len(batch) for batch in batches), read)
    except BROKEN as error:
        raise broken(source.path, error) from error


@contextmanager
def _batches(source: TableFile) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    with pa.memory_map(str(source.path)) as file:
        head = file.read(6)
        if head[:4] == b"FEA1":
            remedy = "Write it again with a current version of pandas or pyarrow."
            raise DataError(str(source.path), expected="Feather version 2", found="Feather version 1", remedy=remedy)
        file.seek(0)
        if head == b"ARROW1":
            reader = pa.ipc.open_file(file)
            yield reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            stream = pa.ipc.open_stream(file)
            yield stream.schema, chain(stream)
