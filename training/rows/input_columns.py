"""Choose the input columns of a table: by the settings, and for all other fields by their values.

A number or a boolean is one column, unless the field looks like an identifier. A date, a time, or a text field that has
only dates and times becomes several columns (training.tables.field_parts). Text with few distinct values is a category.
Text with many distinct values is payload, unless the settings name the field.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.categories import encode_field, is_number, is_text
from lookalike.training.rows.pandas_index import index_columns
from lookalike.training.tables.columns import BOOLEANS, CODE, PARSED, TEXT_PARTS, Column
from lookalike.training.tables.field_parts import TimeSpan, code_texts, is_time
from lookalike.training.tables.origin import find_base

__all__ = ["MOST_CATEGORIES", "choose_columns"]

MOST_CATEGORIES = 4_096
"""The most distinct values of a column that the settings name as a category: each value is a feature of the model."""
SAMPLE = 1 << 16
"""The number of rows that are examined for identifiers."""
FEWEST = 200
"""An identifier has more different values than this."""
_NAMED = re.compile(r"(^|[_\W])(id|ids|key|uuid|guid|pk|no|nr|num|number|index|idx|account|serial|sku|isbn|ean)$")
_CAMEL = re.compile(r"[a-z](Id|ID|Key|No|Nr|Number)$")


@dataclass
class _Seen:
    """Facts about the values of the fields, so far."""

    times: dict[str, TimeSpan]
    codes: dict[str, set[str]]
    integers: dict[str, list[pa.Array]]
    ranges: dict[str, list[int]]
    texts: set[str] = field(default_factory=set)
    rows: int = 0


def choose_columns(
    path: str,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    categories: dict[str, tuple[str, ...]],
    settings: DataConfig,
) -> tuple[tuple[Column, ...], list[str]]:
    """Return the input columns, in the file's order, and notes for the user.

    `categories`: the distinct values of each text column with few distinct values. Raises DataError if a setting names
    a column that the table lacks, or a column whose values do not fit the setting.
    """
    _check_settings(path, schema, settings)
    index = index_columns(schema)
    fields = [one for one in schema if _is_candidate(one, index, settings)]
    seen = _Seen(
        {
            one.name: TimeSpan()
            for one in fields
            if is_time(one.type) or (is_text(one.type) and not _has_setting(one, settings))
        },
        {name: set() for name in settings.category},
        {one.name: [] for one in fields if pa.types.is_integer(one.type) and not _has_setting(one, settings)},
        {one.name: [] for one in fields if pa.types.is_integer(one.type)},
    )
    for batch in batches:
        _update(path, seen, batch, settings)
        if not (seen.times or seen.codes or settings.number or (seen.integers and seen.rows < SAMPLE)):
            break
    found: list[Column] = []
    for one in fields:
        found += _columns_of(path, one, seen, categories, settings)
    names = [column.name for column in found]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise DataError(path, "unique column names", f"{duplicate!r}, also a part of another column", "Rename it.")
    return tuple(found), _notes(fields, {column.field for column in found}, seen)


def _has_setting(one: pa.Field, settings: DataConfig) -> bool:
    """Whether a setting says what a column is."""
    return one.name in {*settings.category, *settings.number, *settings.text}


def _is_candidate(one: pa.Field, index: set[str], settings: DataConfig) -> bool:
    if one.name in {settings.id, settings.label, *settings.exclude}:
        return False
    if _has_setting(one, settings) or one.name in settings.columns:
        return True
    return not settings.columns and one.name not in index


def _check_settings(path: str, schema: pa.Schema, settings: DataConfig) -> None:
    """Refuse names of columns that the table lacks, and columns whose type does not fit."""
    known = [name for name in schema.names if name not in {settings.id, settings.label}]
    for setting in ("columns", "exclude", "category", "number", "text"):
        names = getattr(settings, setting)
        allowed = schema.names if setting == "exclude" else known
        if unknown := [name for name in names if name not in allowed]:
            found = repr(unknown[0]) + (", which is never input" if unknown[0] in schema.names else "")
            expected = f"names of columns of {path}: {', '.join(known)[:1_000]}"
            raise DataError(f"data.{setting}", expected=expected, found=found)
    listed = [*settings.category, *settings.number, *settings.text]
    for name in listed:
        if listed.count(name) > 1 or name in settings.exclude:
            expected = "each column in one of category, number, text and exclude"
            raise DataError(f"{path}, column {name}", expected=expected, found="the column in two of these")
        kind = schema.field(name).type
        fits = is_text(kind) or (is_number(kind) and name not in settings.text)
        if not fits:
            expected = "text" if name in settings.text else "numbers or text"
            raise DataError(f"{path}, column {name}", expected=expected, found=str(kind))


def _update(path: str, seen: _Seen, batch: pa.RecordBatch, settings: DataConfig) -> None:
    """Update the facts from the next batch, and check the values of categories and numbers that the settings name."""
    for name, values in seen.codes.items():
        cells = batch.column(name)
        texts = cells.cast(pa.large_string()) if is_text(cells.type) else code_texts(cells)
        values.update(pc.unique(texts.drop_null()).to_pylist())
        if len(values) > MOST_CATEGORIES:
            expected = f"at most {MOST_CATEGORIES:,} distinct values in a category"
            raise DataError(f"{path}, column {name}", expected, "more", "Leave it out, or use --text for text.")
    for name in settings.number:
        if is_text(batch.schema.field(name).type):
            encode_field(batch.column(name), [Column(name, part=PARSED)], path, seen.rows)
    for name in list(seen.times):
        cells = batch.column(name)
        try:
            seen.times[name].add(cells)
        except ValueError:
            del seen.times[name]
    for name in list(seen.integers) if seen.rows < SAMPLE else []:
        seen.integers[name].append(batch.column(name))
        if not _has_id_name(name) and not seen.rows and len(pc.unique(batch.column(name))) < len(batch):
            del seen.integers[name]
    for name, known in seen.ranges.items():
        ends = [end for end in pc.min_max(batch.column(name)).as_py().values() if end is not None]
        seen.ranges[name] = [min(ends + known), max(ends + known)] if ends else known
    for one in batch.schema:
        if is_text(one.type) and one.name not in seen.texts and batch.column(one.name).null_count < len(batch):
            seen.texts.add(one.name)
    seen.rows += len(batch)


def _columns_of(
    path: str, one: pa.Field, seen: _Seen, categories: dict[str, tuple[str, ...]], settings: DataConfig
) -> list[Column]:
    """Return the columns of a field; none if it is not part of the input."""
    name, is_code = one.name, is_number(one.type)
    if name in seen.codes:
        values = tuple(sorted(seen.codes[name]))
        if not values:
            raise DataError(f"{path}, column {name}", expected="at least one value", found="only missing values")
        return [Column(name, "categorical", values, *((name, CODE) if is_code else ()))]
    if name in settings.text:
        return [Column(f"{name}.{part}", "numeric", (), name, part) for part in TEXT_PARTS]
    if is_number(one.type):
        if pa.types.is_boolean(one.type):
            return [Column(name, "boolean", BOOLEANS)]
        if name not in settings.columns and _is_identifier(name, seen.integers.get(name, [])):
            return []
        low, high = seen.ranges.get(name) or (0, 0)
        return [Column(name, base=find_base(low, high))]
    if name in settings.number:
        return [Column(name, "numeric", (), name, PARSED)]
    if name in seen.times and (parts := seen.times[name].parts()):
        return [Column(f"{name}.{part}", "numeric", (), name, part) for part in parts]
    if name in categories and settings.categories:
        return [Column(name, "categorical", categories[name])]
    if name in settings.columns:
        remedy = f"Use --text {name} or --category {name}, or leave it out of data.columns."
        expected = "numbers, times, or text with few distinct values"
        raise DataError(f"{path}, column {name}", expected, f"other values ({one.type})", remedy)
    return []


def _has_id_name(name: str) -> bool:
    return bool(_NAMED.search(name.lower()) or _CAMEL.search(name))


def _is_identifier(name: str, parts: Sequence[pa.Array]) -> bool:
    """Whether whole numbers identify rows or things, and measure nothing.

    An identifier has more than FEWEST different values. In addition, its name looks like the name of an identifier; or
    all numbers are different, not negative, below 10⁹ and nearly without gaps, as row numbers are. Larger numbers may
    be times in seconds.
    """
    if not parts:
        return False
    numbers = pa.chunked_array(parts).combine_chunks().drop_null()
    different = pc.unique(numbers).to_numpy(zero_copy_only=False)
    if len(different) <= FEWEST:
        return False
    if _has_id_name(name):
        return True
    low, high = int(different.min()), int(different.max())
    dense = high - low < 2 * len(different)
    return bool(len(different) == len(numbers) and dense and low >= 0 and high < 10**9) and _is_complete(parts)


def _is_complete(parts: Sequence[pa.Array]) -> bool:
    return not any(part.null_count for part in parts)


def _notes(fields: list[pa.Field], used: set[str], seen: _Seen) -> list[str]:
    """Return a line about each kind of column that is not input, with the options that make such a column input."""
    notes = []
    left = [one for one in fields if one.name not in used]
    if names := [one.name for one in left if pa.types.is_integer(one.type)]:
        notes.append(
            f"payload, not input, because the numbers look like identifiers: {_listed(names)}. --number {names[0]} "
            f"makes a column input; --exclude {names[0]} ends this note"
        )
    if names := [one.name for one in left if is_text(one.type) and one.name in seen.texts]:
        notes.append(
            f"payload, not input, because the text has many distinct values: {_listed(names)}. --text {names[0]} makes "
            f"a column input as n-grams, --category {names[0]} as a category; --exclude {names[0]} ends this note"
        )
    if names := [one.name for one in left if _is_vector(one.type)]:
        notes.append(
            f"payload, not input, because the values are lists of numbers: {_listed(names)}. If they are embeddings, "
            f"build with --encoder none, without training; --exclude {names[0]} ends this note"
        )
    return notes


def _is_vector(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests) and pa.types.is_floating(kind.value_type)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
