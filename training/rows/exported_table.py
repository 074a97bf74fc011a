"""Read the rows of a table from a file that `lookalike export` wrote: the ids, and the fields of the payloads.

The payload of a row is JSON text in the column `payload`. The columns `payload.FIELD` repeat the fields of the payload
for other tools. An encoder does not read the embedding.
"""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.categories import is_text
from lookalike.training.rows.json_table import read_objects, united
from lookalike.training.rows.typed_table import TypedFile
from lookalike.training.transforms import InputSpec

__all__ = ["exported_rows"]

_PAYLOAD, _ALL = "payload", {"id", "payload", "embedding"}
_BATCH = 1 << 14
"""Rows whose payloads are read at once."""


def exported_rows(file: TypedFile, settings: DataConfig, spec: InputSpec | None) -> TypedFile:
    """Return the table in an exported file; a file that is not an export stays unchanged.

    Raises DataError if the encoder does not read tables: an export has no photos, no recordings and no arrays.
    """
    if not _is_export(file.schema):
        return file
    path = file.source.path
    if spec is not None and not spec.columns:
        remedy = "Import the data that the items come from, or use the embeddings with `build --encoder none`."
        found = "a file of `lookalike export`, which has only payloads and embeddings"
        expected = "photos, recordings or arrays: the encoder does not read tables"
        raise DataError(str(path), expected=expected, found=found, remedy=remedy)
    schema, first = pa.schema([]), 0
    for ids, lines in _texts(file):
        schema = united(path, schema, read_objects(path, lines, first), first)
        first += len(ids)
    # a payload repeats the labels as "label" if the settings name another column
    repeated = {"label"} if settings.label in schema.names and settings.label != "label" else set[str]()
    names = [name for name in schema.names if name not in {settings.id, *repeated}]
    schema = pa.schema([pa.field(settings.id, pa.string()), *(schema.field(name) for name in names)])

    def read(size: int, wanted: list[str] | None) -> Iterator[pa.RecordBatch]:
        first, fields = 0, pa.schema([schema.field(name) for name in names])
        for ids, lines in _texts(file):
            table = read_objects(path, lines, first, fields).select(names).add_column(0, settings.id, ids)
            yield from table.select(wanted or schema.names).combine_chunks().to_batches(max_chunksize=size)
            first += len(ids)

    return replace(file, schema=schema, read=read)


def _is_export(schema: pa.Schema) -> bool:
    names = set(schema.names)
    others = all(name.startswith(f"{_PAYLOAD}.") for name in names - _ALL)
    return names >= _ALL and others and is_text(schema.field(_PAYLOAD).type)


def _texts(file: TypedFile) -> Iterator[tuple[pa.Array, bytes]]:
    """Yield the ids of some rows, and a line with the payload of each."""
    for batch in file.read(_BATCH, ["id", _PAYLOAD]):
        texts = pc.fill_null(batch.column(_PAYLOAD).cast(pa.large_string()), "{}")
        yield batch.column("id").cast(pa.string()), "".join(f"{text}\n" for text in texts.to_pylist()).encode()
