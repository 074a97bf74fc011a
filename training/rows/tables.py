"""Tables: .parquet here and .csv in `training.rows.csv_table`, read in record batches.

The columns `id` and `label` are what they say. Every column of numbers or booleans, and of text with few distinct
values, is part of the input (`training.rows.coding`); text travels in the payload, and so does all the rest.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet

from training.columns import CATEGORIES, Column
from training.errors import DataError
from training.rows.base import Chunk, Rows
from training.rows.coding import APART, census, code, find_columns, is_finer, is_text, match_columns

__all__ = ["MAX_COLUMNS", "Opened", "check_names", "open_parquet", "table_rows"]

Columns = tuple[Column, ...]
Batches = Callable[[int], Iterator[pa.RecordBatch]]

MAX_COLUMNS = 65_536
"""As wide as a layer of a model may be."""
_BATCH = 1 << 16
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class Opened:
    """A table whose columns are known; `notes` say what the user may not expect of how it was read."""

    path: Path
    schema: pa.Schema
    count: int
    batches: Batches
    notes: tuple[str, ...] = ()


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
        check_names(path, schema.names)
        texts = [field.name for field in schema if is_text(field.type)] if columns is None else []
        values = census(batches(_BATCH, texts), texts, categories, count=False)[1] if texts else {}
    except _BROKEN as error:
        raise _broken(path, error) from error
    return table_rows(Opened(path, schema, count, batches), columns, values, partial(open_parquet, path), categories)


def check_names(path: Path, names: list[str]) -> None:
    """Refuse too many columns, two of one name, and nearly `id` or `label`.

    Raises:
        DataError: it names the first such column.
    """
    if len(names) > MAX_COLUMNS:
        raise DataError(
            str(path),
            expected=f"at most {MAX_COLUMNS:,} columns",
            found=f"{len(names):,}",
            remedy="Leave columns out, or save the numbers as an .npy array.",
        )
    if len(set(names)) != len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise DataError(str(path), expected="column names that differ", found=f"{twice!r} at least twice")
    for name in names:
        if name not in APART and name.strip().lower() in APART:
            raise DataError(
                str(path),
                expected=f"the column {name.strip().lower()}, which is no input, under that name",
                found=repr(name),
                remedy="Rename it; or call it otherwise where it is meant to be learnt from.",
            )


def table_rows(
    opened: Opened,
    given: Columns | None,
    values: dict[str, tuple[str, ...]],
    reopen: Callable[..., Rows],
    categories: int,
) -> Rows:
    """The rows of an open table; `values` are those of each column of categories, the rest as in `open_parquet`."""
    path = opened.path
    columns = _inputs(opened, given, values)
    apart = {column.name for column in columns if column.kind != "categorical"} | {"id"}
    others = [name for name in opened.schema.names if name not in apart]

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
        notes=opened.notes,
    )


def _inputs(opened: Opened, given: Columns | None, values: dict[str, tuple[str, ...]]) -> Columns:
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


def _broken(path: Path, error: Exception) -> DataError:
    kind = path.suffix.lstrip(".")
    return DataError(
        str(path),
        expected=f"a readable {kind} file",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
    )
