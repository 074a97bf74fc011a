"""The input columns of a table, detected or matched by name, and the conversion of their values to numbers.

Numbers, booleans, and text with few distinct values are part of the input. `id` and `label` never are.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Doubles
from lookalike.training.errors import DataError
from lookalike.training.rows.pandas_index import index_columns
from lookalike.training.tables.columns import BOOLEANS, Column

__all__ = ["RESERVED", "encode_column", "find_columns", "is_text", "match_columns", "needs_float64", "scan_categories"]

LONGEST = 256
"""Characters; a longer text is not a category."""
RESERVED = {"id", "label"}


def scan_categories(
    batches: Iterable[pa.RecordBatch], texts: list[str], categories: int, *, count: bool = True
) -> tuple[int, dict[str, tuple[str, ...]]]:
    """Count the rows, and find the text columns that contain categories.

    A column of categories has at most `categories` distinct values, each at least twice on average. Without `count`,
    reading ends as soon as no column can be a column of categories. Returns the number of rows that were read, and the
    sorted values of each column of categories.
    """
    values: dict[str, set[str]] = {name: set() for name in texts if name not in RESERVED and categories}
    present: Counter[str] = Counter()
    rows = 0
    for batch in batches:
        rows += len(batch)
        for name in list(values):
            column = _text(batch.column(name))
            present[name] += len(column) - column.null_count
            values[name].update(pc.unique(column.drop_null()).to_pylist())
            if len(values[name]) > categories or max(map(len, values[name]), default=0) > LONGEST:
                del values[name]
        if not values and not count:
            break
    found = {name: distinct for name, distinct in values.items() if 0 < 2 * len(distinct) <= present[name]}
    return rows, {name: tuple(sorted(distinct)) for name, distinct in found.items()}


def find_columns(schema: pa.Schema, categories: dict[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """Return the input columns, in the file's order, without the index of a DataFrame."""
    excluded = RESERVED | index_columns(schema)
    found = []
    for field in schema:
        if field.name in categories:
            found.append(Column(field.name, "categorical", categories[field.name]))
        elif _is_number(field.type) and field.name not in excluded:
            boolean = pa.types.is_boolean(field.type)
            found.append(Column(field.name, "boolean", BOOLEANS) if boolean else Column(field.name))
    return tuple(found)


def match_columns(path: Path, schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    """Raise DataError if the table lacks one of the columns, or if a column has another kind of values."""
    for column in columns:
        place, position = f"{path}, column {column.name}", schema.get_field_index(column.name)
        if position < 0:
            found = f"columns {', '.join(schema.names)[:200]}"
            raise DataError(place, expected="the column, because the encoder was trained on it", found=found)
        kind = schema.field(position).type
        expected, matches = ("text", is_text) if column.kind == "categorical" else ("numbers or booleans", _is_number)
        if not matches(kind) and not pa.types.is_null(kind):
            raise DataError(place, expected=f"{expected}, as in the encoder's training", found=str(kind))


def encode_column(values: pa.Array, column: Column, path: str, first: int) -> Doubles:
    """(n,) values -> (n,) numbers, or codes of categories; NaN for missing and unknown values.

    Raises DataError if a boolean column contains another number than 0 and 1; rows are counted from `first`.
    """
    if column.kind == "categorical":
        values = pc.index_in(_text(values), value_set=pa.array(column.values, pa.large_string()))
    numbers: Doubles = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if column.kind == "boolean":
        bad = np.flatnonzero(~np.isin(numbers, (0, 1)) & ~np.isnan(numbers))
        if len(bad):
            place, found = f"{path}, row {first + bad[0]}, column {column.name}", f"{numbers[bad[0]]:g}"
            raise DataError(place, expected="true or false, or 1 or 0", found=found)
    return numbers


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def needs_float64(kind: pa.DataType) -> bool:
    """Whether the type can hold numbers that float32 cannot represent."""
    fits = pa.types.is_boolean(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind)
    return not (fits or (pa.types.is_integer(kind) and kind.bit_width <= 16))


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is a string type, also as the values of a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_string())
