"""Categories among the text columns of a table, and the conversion of a field's values to numbers."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Doubles
from lookalike.training.errors import DataError
from lookalike.training.tables.columns import CODE, PARSED, TEXT_PARTS, TIME_PARTS, Column
from lookalike.training.tables.field_parts import code_texts, encode_parts, is_time
from lookalike.training.tables.origin import minus_base

__all__ = [
    "LONGEST",
    "cell_kinds",
    "encode_field",
    "is_number",
    "is_text",
    "match_columns",
    "needs_float64",
    "scan_categories",
]

LONGEST = 256
"""Characters; a longer text is not a category."""


def scan_categories(
    batches: Iterable[pa.RecordBatch], texts: list[str], categories: int, *, count: bool = True
) -> tuple[int, dict[str, tuple[str, ...]]]:
    """Count the rows, and find the text columns that contain categories.

    A column of categories has at most `categories` distinct values, each at least twice on average. Without `count`,
    reading ends as soon as no column can be a column of categories. Returns the number of rows that were read, and the
    sorted values of each column of categories.
    """
    values: dict[str, set[str]] = {name: set() for name in texts if categories}
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


def match_columns(path: Path, schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    """Raise DataError if the table lacks the field of a column, or if the field has another kind of values."""
    for column in {column.field: column for column in columns}.values():
        place, position = f"{path}, column {column.field}", schema.get_field_index(column.field)
        if position < 0:
            found = f"columns {', '.join(schema.names)[:200]}"
            raise DataError(place, expected="the column, because the encoder was trained on it", found=found)
        kind = schema.field(position).type
        expected, tests = _accepted(column)
        if not any(test(kind) for test in tests) and not pa.types.is_null(kind):
            raise DataError(place, expected=f"{expected}, as in the encoder's training", found=str(kind))


def cell_kinds(columns: tuple[Column, ...]) -> dict[str, pa.DataType]:
    """Return the type that the cells of a text file have in each field of the columns."""
    kinds = {"numeric": pa.float64(), "boolean": pa.bool_(), "categorical": pa.string()}
    of_part = {"": None, CODE: pa.float64()}
    return {column.field: of_part.get(column.part, pa.string()) or kinds[column.kind] for column in columns}


def encode_field(values: pa.Array, columns: Sequence[Column], path: str, first: int) -> Doubles:
    """(n,) values of a field -> (n, columns) numbers, or codes of categories; NaN for missing and unknown values.

    `columns`: the columns of the field. `first`: the number of the first row, for errors. Raises DataError if a boolean
    column contains a number other than 0 and 1, or if a text is not a time, or not a number.
    """
    column = columns[0]
    if column.part and column.part != CODE:
        try:
            return encode_parts(values, [one.part for one in columns])
        except ValueError as error:
            position, _, _ = str(error).partition(":")
            place, expected = f"{path}, row {first + int(position)}, column {column.field}", "a number"
            expected = expected if column.part == PARSED else "a date or a time, such as 2024-03-31 or 2024-03-31T01:30"
            found = repr(str(values[int(position)].as_py())[:40])
            raise DataError(place, expected, found, remedy="Correct or remove the row.") from None
    if column.kind == "categorical":
        texts = code_texts(values) if column.part == CODE else _text(values)
        values = pc.index_in(texts, value_set=pa.array(column.values, pa.large_string()))
    if column.base and pa.types.is_integer(values.type):
        whole = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        missing = values.is_null().to_numpy(zero_copy_only=False)
        return np.where(missing, np.nan, minus_base(whole, column.base))[:, None]
    numbers: Doubles = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if column.base:
        return minus_base(numbers, column.base)[:, None]
    if column.kind == "boolean":
        bad = np.flatnonzero(~np.isin(numbers, (0, 1)) & ~np.isnan(numbers))
        if len(bad):
            place, found = f"{path}, row {first + bad[0]}, column {column.name}", f"{numbers[bad[0]]:g}"
            raise DataError(place, expected="true or false, or 1 or 0", found=found)
    return numbers[:, None]


def _accepted(column: Column) -> tuple[str, list[Callable[[pa.DataType], bool]]]:
    """Return the values that a column's field may have, in words, and the tests of their type."""
    if column.part in TIME_PARTS:
        return "dates or times, or text in ISO 8601 format", [is_time, is_text]
    if column.part in TEXT_PARTS:
        return "text", [is_text]
    if column.part == PARSED:
        return "numbers or text", [is_number, is_text]
    if column.part == CODE:
        return "numbers", [is_number]
    return ("text", [is_text]) if column.kind == "categorical" else ("numbers or booleans", [is_number])


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is a number or a boolean."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def needs_float64(kind: pa.DataType) -> bool:
    """Whether the type can hold numbers that float32 cannot represent."""
    if is_time(kind):
        return True
    fits = pa.types.is_boolean(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind)
    return not (fits or (pa.types.is_integer(kind) and kind.bit_width <= 16))


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is a string type, also as the values of a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_string())
