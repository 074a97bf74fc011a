"""Which columns of a table are the input, found or matched by name, and how their values become numbers.

Numbers and booleans are part of the input, and so is text with few distinct values. `id` and `label` never are.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows.pandas_index import index_columns
from lookalike.training.tables.columns import BOOLEANS, Column

__all__ = ["APART", "census", "code", "find_columns", "is_number", "is_text", "match_columns", "needs_float64"]

LONGEST = 256
"""Characters; a longer text is no category."""
APART = {"id", "label"}


def census(
    batches: Iterable[pa.RecordBatch], texts: list[str], categories: int, *, count: bool = True
) -> tuple[int, dict[str, tuple[str, ...]]]:
    """Count the rows, and find which columns of text hold categories.

    Those are columns of at most `categories` distinct values, each of them twice on average. Without `count` the
    reading ends where no column can be one any more.

    Returns:
        The rows that were read, and for each such column its values, sorted.
    """
    values: dict[str, set[str]] = {name: set() for name in texts if name not in APART and categories}
    given: Counter[str] = Counter()
    rows = 0
    for batch in batches:
        rows += len(batch)
        for name in list(values):
            column = _text(batch.column(name))
            given[name] += len(column) - column.null_count
            values[name].update(pc.unique(column.drop_null()).to_pylist())
            if len(values[name]) > categories or max(map(len, values[name]), default=0) > LONGEST:
                del values[name]
        if not values and not count:
            break
    return rows, {name: tuple(sorted(some)) for name, some in values.items() if 0 < 2 * len(some) <= given[name]}


def find_columns(schema: pa.Schema, categories: dict[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """The input columns, in the file's order; a DataFrame's index is none."""
    apart = APART | index_columns(schema)
    found = []
    for field in schema:
        if field.name in categories:
            found.append(Column(field.name, "categorical", categories[field.name]))
        elif is_number(field.type) and field.name not in apart:
            boolean = pa.types.is_boolean(field.type)
            found.append(Column(field.name, "boolean", BOOLEANS) if boolean else Column(field.name))
    return tuple(found)


def match_columns(path: Path, schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    """Refuse a table without one of the columns, or with another kind of values in it.

    Raises:
        DataError: it names the column.
    """
    for column in columns:
        place = schema.get_field_index(column.name)
        if place < 0:
            raise DataError(
                f"{path}, column {column.name}",
                expected="the column, for the encoder was trained on it",
                found=f"columns {', '.join(schema.names)[:200]}",
            )
        kind = schema.field(place).type
        wanted, right = ("text", is_text) if column.kind == "categorical" else ("numbers or booleans", is_number)
        if not right(kind) and not pa.types.is_null(kind):
            raise DataError(
                f"{path}, column {column.name}", expected=f"{wanted}, as the encoder was trained on", found=str(kind)
            )


def code(column: pa.Array, wanted: Column, place: str, first: int) -> NDArray[np.float64]:
    """(n,) values of numbers and codes of categories; NaN where missing or unknown.

    Raises:
        DataError: a number that is no boolean where those are wanted; it names the row, counted from `first`.
    """
    if wanted.kind == "categorical":
        column = pc.index_in(_text(column), value_set=pa.array(wanted.values, pa.large_string()))
    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if wanted.kind == "boolean":
        odd = np.flatnonzero(~np.isin(values, (0, 1)) & ~np.isnan(values))
        if len(odd):
            raise DataError(
                f"{place}, row {first + odd[0]}, column {wanted.name}",
                expected="true or false, or 1 or 0",
                found=f"{values[odd[0]]:g}",
            )
    return values


def is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def needs_float64(kind: pa.DataType) -> bool:
    """Can the type hold numbers that float32 cannot hold?"""
    held = pa.types.is_boolean(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind)
    return not (held or (pa.types.is_integer(kind) and kind.bit_width <= 16))


def is_text(kind: pa.DataType) -> bool:
    """Strings of either size, plain or in a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_string())
