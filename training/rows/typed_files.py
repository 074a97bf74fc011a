"""Open a file whose columns have types, by its kind."""

from importlib import import_module

from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.typed_table import TypedFile

__all__ = ["open_typed_file"]

_OPENERS = {
    "parquet": "parquet_table:parquet_file",
    "arrow": "arrow_table:arrow_file",
    "json": "json_table:json_file",
    "excel": "excel_table:excel_file",
}
"""By kind: the module of this room and its function; each is imported at its first use."""


def open_typed_file(kind: str, source: TableFile) -> TypedFile:
    """Return the schema, the count and the reader of a file. Raises DataError if it is damaged."""
    module, _, function = _OPENERS[kind].partition(":")
    file: TypedFile = getattr(import_module(f"lookalike.training.rows.{module}"), function)(source)
    return file
