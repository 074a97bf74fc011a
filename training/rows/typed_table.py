"""From files or objects whose columns have types (Parquet, Arrow, JSON Lines, DataFrames) to rows."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.arrow_values import duplicate_field, is_nested, plain_column, text_of
from lookalike.training.rows.base import Rows
from lookalike.training.rows.categories import is_text, scan_categories
from lookalike.training.rows.pandas_index import index_columns
from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.tables import BROKEN, OpenTable, broken, check_names, table_rows
from lookalike.training.transforms import InputSpec

__all__ = ["Batches", "TypedFile", "open_typed", "unite"]

_BATCH = 1 << 16
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")


Batches = Callable[[int, list[str] | None], Iterator[pa.RecordBatch]]
"""The most rows of a batch, and the columns to read (None: all) -> all batches in order."""


@dataclass(frozen=True)
class TypedFile:
    """A file of a table, or an object, whose columns have types.

    Attributes:
        source: the file, or the name of the object.
        schema: the columns, without the partition columns.
        count: the number of rows.
        read: returns the batches.
    """

    source: TableFile
    schema: pa.Schema
    count: int
    read: Batches


def open_typed(
    path: Path,
    files: Sequence[TypedFile],
    settings: DataConfig,
    spec: InputSpec | None,
    reopen: Callable[[DataConfig, InputSpec | None], Rows],
) -> Rows:
    """Return the rows of one table in one or several files.

    Args:
        path: the name of the table.
        settings, spec, reopen: as in `table_rows`.

    Raises:
        DataError: as `unite`.
    """
    schema, batches = unite(path, files, settings)
    reserved = {settings.id, settings.label}
    index = index_columns(schema) - reserved
    texts = [field.name for field in schema if is_text(field.type) and field.name not in index | reserved]
    texts = texts if spec is None else []
    try:
        values = scan_categories(batches(_BATCH, texts), texts, settings.categories, count=False)[1] if texts else {}
    except BROKEN as error:
        raise broken(path, error) from error
    notes = [f"column {name} is the index of pandas: payload, not input" for name in sorted(index)]
    count = sum(file.count for file in files)
    shown = tuple(notes) if spec is None else ()
    opened = OpenTable(path, schema, count, lambda size: batches(size, None), shown)
    return table_rows(opened, values, settings, spec, reopen)


def unite(path: Path, files: Sequence[TypedFile], settings: DataConfig) -> tuple[pa.Schema, Batches]:
    """Return the schema and the batches of one table in one or several files.

    A column that only some files have is missing in the others; numbers of different types become the wider type.
    Raises DataError, which names the file, if a file cannot be read, or if its columns do not fit the files before.
    """
    schema = _unified(path, files, settings)

    def batches(size: int, names: list[str] | None) -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from _batches(file, schema, size, names)

    return schema, batches


def _unified(path: Path, files: Sequence[TypedFile], settings: DataConfig) -> pa.Schema:
    """Return the schema of all files together, with the partition columns."""
    constants = _constant_fields(files)
    whole: pa.Schema | None = None
    for file in files:
        schema, place = _text_schema(file.schema), str(file.source.path)
        check_names(file.source.path, schema.names, settings)
        _check_types(file.source.path, schema, {settings.id, settings.label})
        if both := set(schema.names) & file.source.constants.keys():
            found = f"{sorted(both)} in the file and in the names of its folders"
            raise DataError(place, expected="each column once", found=found)
        try:
            whole = pa.unify_schemas([whole, schema], promote_options="permissive") if whole else schema
        except pa.ArrowException as error:
            expected = "columns of the same types as in the files before it"
            raise DataError(place, expected, found=str(error).splitlines()[0]) from error
    schema = whole or pa.schema([])
    schema = pa.schema([*schema, *constants], metadata=schema.metadata)
    check_names(path, schema.names, settings)
    return schema


def _constant_fields(files: Sequence[TypedFile]) -> list[pa.Field]:
    """Return the partition columns: integers if all values of a column are integers, else text."""
    values: dict[str, list[str]] = {}
    for file in files:
        for name, value in file.source.constants.items():
            values.setdefault(name, []).extend([value] if value is not None else [])
    whole = {name for name, texts in values.items() if all(map(_WHOLE.fullmatch, texts))}
    return [pa.field(name, pa.int64() if name in whole else pa.string()) for name in values]


def _batches(file: TypedFile, schema: pa.Schema, size: int, names: list[str] | None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file with all columns of the whole table, or with some columns."""
    wanted = schema.names if names is None else names
    present = set(file.schema.names)
    own = [name for name in wanted if name in present] or file.schema.names[:1]  # one column gives the count
    first = 0
    try:
        for batch in file.read(size, None if names is None else own):
            texts = _with_texts(file.source.path, batch, first)
            found = dict(zip(texts.schema.names, texts.columns, strict=True))
            columns = [_column(found.get(name), schema.field(name), file.source, len(batch)) for name in wanted]
            yield pa.record_batch(columns, names=wanted) if columns else batch
            first += len(batch)
    except BROKEN as error:
        raise broken(file.source.path, error) from error


def _column(found: pa.Array | None, field: pa.Field, source: TableFile, count: int) -> pa.Array:
    """Return a column of the whole table: from the file (`found`), from the names of its folders, or missing."""
    if found is not None:
        return found if found.type == field.type else found.cast(field.type, safe=False)
    return pa.repeat(pa.scalar(source.constants.get(field.name), pa.string()), count).cast(field.type)


def _text_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the rows: bytes become text, as `_with_texts` decodes them, and views become values."""
    kinds = [_without_views(text_of(pa.nulls(0, field.type)).type) for field in schema]
    return pa.schema([*zip(schema.names, kinds, strict=True)], metadata=schema.metadata)


def _without_views(kind: pa.DataType) -> pa.DataType:
    """Return the type that is not a view: few of Arrow's functions accept views, which polars writes."""
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_views(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_without_views(kind.value_type))
    return pa.large_list(_without_views(kind.value_type)) if pa.types.is_large_list(kind) else kind


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


def _check_types(path: Path, schema: pa.Schema, reserved: set[str]) -> None:
    for field in schema:
        place = f"{path}, column {field.name}"
        if field.name in reserved and is_nested(field.type):
            raise DataError(place, expected="one value per row", found=str(field.type)[:200])
        if (duplicate := duplicate_field(field.type)) is not None:
            raise DataError(place, expected="a struct with unique field names", found=f"{duplicate!r} at least twice")
