"""A table's columns: the kind of values, the known categories, and the statistics of the training rows.

    {"name": "cost", "kind": "numeric", "missing": 2, "origin": 0, "offset": 3.5, "factor": 0.5, "low": 1, "high": 9,
     "mean": 3.5}
    {"name": "sold", "kind": "boolean", "missing": 0, "counts": [61, 39]}
    {"name": "color", "kind": "categorical", "missing": 1, "values": ["blue", "red"], "counts": [12, 87]}
    {"name": "sold_on.age", "source": "sold_on", "part": "age", "kind": "numeric", ...}
    {"name": "at", "kind": "numeric", "base": 1700000000000000000, ...}

The column "sold_on.age" is a part of the field "sold_on" (training.tables.field_parts). In raw rows, a number is its
value minus the column's base and the column's origin. A category is its code: the position among the column's values.
NaN is a missing value or an unknown category. An artifact stores its columns in this form; this module has the writer
and the reader.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BOOLEANS",
    "CATEGORIES",
    "CODE",
    "NGRAMS",
    "PARSED",
    "TEXT_PARTS",
    "TIME_PARTS",
    "Column",
    "FittedColumn",
    "describe_columns",
    "fields_of",
    "read_columns",
    "to_json_rows",
]

ColumnKind = Literal["numeric", "boolean", "categorical"]
BOOLEANS = ("false", "true")
CATEGORIES = 64
"""A text column with at most this many distinct values is part of the input, unless the user sets another limit."""
TIME_PARTS = ("age", "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "month_sin", "month_cos")
NGRAMS = 64
TEXT_PARTS = tuple(f"ngram_{number}" for number in range(NGRAMS))
PARSED, CODE = "parsed", "code"
_PARTS = {"numeric": {*TIME_PARTS, *TEXT_PARTS, PARSED}, "boolean": set[str](), "categorical": {CODE}}
"""By kind: the parts of a field that a column may be; training.tables.field_parts defines them."""
_NUMBERS = ("origin", "offset", "factor", "low", "high", "mean")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Column:
    """One column that is part of the input.

    Attributes:
        values: the categories in the order of their codes: false and true for a boolean, none for a number.
        source: the field of the source that the column is a part of; "" if the column is the field itself.
        part: how the column is computed from its field (training.tables.field_parts); "" if it is the field's value.
        base: a number that is subtracted in integers if float64 does not represent the values (training.tables.origin).
    """

    name: str
    kind: ColumnKind = "numeric"
    values: tuple[str, ...] = ()
    source: str = ""
    part: str = ""
    base: int = 0

    @property
    def field(self) -> str:
        """The name of the field in a file or a request; several columns may have one field."""
        return self.source or self.name

    @cached_property
    def codes(self) -> dict[str, float]:
        """The code of each category."""
        return {value: float(code) for code, value in enumerate(self.values)}


@dataclass(frozen=True)
class FittedColumn:
    """A column and the statistics of its training rows.

    Attributes:
        missing: how many training rows have no value.
        counts: how many training rows have each category.
        origin: for a number column, the number that is subtracted in float64 (training.tables.origin).
        offset, factor: for a number column: a value is preprocessed as (value - origin - offset) * factor.
        low, high, mean: of the raw numbers that are present, minus the origin.
    """

    column: Column
    missing: int
    counts: tuple[int, ...] = ()
    offset: float = 0.0
    factor: float = 1.0
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    origin: float = 0.0


def fields_of(columns: tuple[Column, ...]) -> dict[str, list[int]]:
    """Return the fields of the source, in order, each with the positions of its columns."""
    fields: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        fields.setdefault(column.field, []).append(place)
    return fields


def describe_columns(fitted: tuple[FittedColumn, ...]) -> list[dict[str, Any]]:
    """Return the columns as plain JSON."""
    return [_describe(column) for column in fitted]


def read_columns(described: list[Any]) -> tuple[FittedColumn, ...]:
    """Read the output of `describe_columns`. Raises ValueError, with the name of the column, for anything else."""
    if not isinstance(described, list) or not described:
        raise ValueError(f"columns are {type(described).__name__}, expected a list that is not empty")
    fitted = tuple(_read(number, one) for number, one in enumerate(described))
    names = [one.column.name for one in fitted]
    if len(set(names)) != len(names):
        raise ValueError(f"columns have the same name: {names}")
    return fitted


def to_json_rows(rows: NDArray[np.floating], columns: tuple[Column, ...]) -> list[list[Any]]:
    """Return raw rows, (n, width) floats, as JSON values: text for categories, booleans, None for a missing value."""
    if not columns:
        plain: list[list[Any]] = rows.tolist()
        return plain
    words: list[tuple[Any, ...]] = [(False, True) if one.kind == "boolean" else one.values for one in columns]
    known = list(zip(words, (one.base for one in columns), strict=True))
    return [[_json_value(value, *each) for value, each in zip(row, known, strict=True)] for row in rows.tolist()]


def _json_value(value: float, words: tuple[Any, ...], base: int) -> Any:
    if math.isnan(value):
        return None
    if base:
        return base + (int(value) if value.is_integer() else value)
    return words[int(value)] if words else value


def _describe(fitted: FittedColumn) -> dict[str, Any]:
    column = fitted.column
    fields: dict[str, Any] = {"name": column.name, "kind": column.kind, "missing": fitted.missing}
    if column.part:
        fields |= {"source": column.source, "part": column.part}
    if column.kind == "numeric":
        base = {"base": column.base} if column.base else {}
        return fields | base | {name: getattr(fitted, name) for name in _NUMBERS}
    values = {"values": list(column.values)} if column.kind == "categorical" else {}
    return fields | values | {"counts": list(fitted.counts)}


def _read(number: int, fields: Any) -> FittedColumn:
    place = f"column {number}"
    if not isinstance(fields, dict) or fields.get("kind") not in get_args(ColumnKind):
        raise ValueError(f"{place} has an unknown kind")
    kind, name = fields["kind"], fields.get("name")
    required = {"numeric": {*_NUMBERS}, "boolean": {"counts"}, "categorical": {"values", "counts"}}[kind]
    required |= {"source", "part"} & fields.keys() and {"source", "part"}
    required |= {"base"} & fields.keys() if kind == "numeric" and "part" not in fields else set()
    if fields.keys() != {"name", "kind", "missing"} | required:
        raise ValueError(f"{place} has the keys {', '.join(sorted(map(str, fields)))}")
    if not isinstance(name, str) or not isinstance(fields.get("source", ""), str):
        raise ValueError(f"{place} has the name {name!r} and the source {fields.get('source')!r}")
    if "part" in fields and not (isinstance(fields["part"], str) and fields["part"] in _PARTS[kind]):
        raise ValueError(f"{place} has the part {fields['part']!r}, which no column of its kind has")
    of_field = (fields.get("source", ""), fields.get("part", ""))
    missing = _count(f"{place}, missing", fields["missing"])
    if kind == "numeric":
        base = fields.get("base", 0)
        if type(base) is not int or abs(base) >= 2**64:
            raise ValueError(f"{place} has the base {base!r}, expected a whole number of at most 64 bits")
        return _read_number(place, Column(name, "numeric", (), *of_field, base), missing, fields)
    values = BOOLEANS if kind == "boolean" else _texts(f"{place}, values", fields["values"])
    counts = fields["counts"]
    if not isinstance(counts, list) or len(counts) != len(values):
        raise ValueError(f"{place} needs one count for each of its {len(values)} values")
    column = Column(name, kind, values, *of_field)
    return FittedColumn(column, missing, tuple(_count(f"{place}, counts", count) for count in counts))


def _read_number(place: str, column: Column, missing: int, fields: dict[str, Any]) -> FittedColumn:
    numbers = {name: fields[name] for name in _NUMBERS}
    for name, value in numbers.items():
        if type(value) not in {int, float} or not abs(value) <= _LARGEST:  # false for NaN
            raise ValueError(f"{place} has {name} {value!r}, not a finite number within float32")
    if numbers["factor"] <= 0 or numbers["low"] > numbers["high"]:
        raise ValueError(f"{place} has factor {numbers['factor']}, low {numbers['low']}, high {numbers['high']}")
    return dataclasses.replace(FittedColumn(column, missing), **numbers)


def _texts(place: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{place} are not a list of strings")
    if len(set(values)) != len(values):
        raise ValueError(f"{place} has a duplicate")
    return tuple(values)


def _count(place: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{place} is {value!r}, expected a whole number from 0 on")
    return value
