"""A table's columns: what kind of values each holds, which categories it knows, and what was fitted on it.

    {"name": "cost", "kind": "numeric", "missing": 2, "origin": 0, "offset": 3.5, "factor": 0.5, "low": 1, "high": 9,
     "mean": 3.5}
    {"name": "sold", "kind": "boolean", "missing": 0, "counts": [61, 39]}
    {"name": "colour", "kind": "categorical", "missing": 1, "values": ["blue", "red"], "counts": [12, 87]}

Raw rows hold a number's value less its origin, and a category's code, its place among the column's values; NaN where
the value is missing or the category unknown. An artifact keeps its columns in this form; writer and reader are both
here.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOOLEANS", "CATEGORIES", "Column", "FittedColumn", "describe_columns", "read_columns", "spell"]

ColumnKind = Literal["numeric", "boolean", "categorical"]
BOOLEANS = ("false", "true")
CATEGORIES = 64
"""Text with at most so many distinct values is part of the input, unless another number is asked for."""
_NUMBERS = ("origin", "offset", "factor", "low", "high", "mean")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Column:
    """One column that is part of the input.

    Attributes:
        values: the categories in the order of their codes; a boolean's are false and true, a number has none.
    """

    name: str
    kind: ColumnKind = "numeric"
    values: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> dict[str, float]:
        """The code of each category."""
        return {value: float(code) for code, value in enumerate(self.values)}


@dataclass(frozen=True)
class FittedColumn:
    """A column, and what its training rows said of it.

    Attributes:
        missing: how many training rows had no value.
        counts: how many had each category.
        origin: of a number, what is subtracted from it in float64 (training.tables.origin).
        offset, factor: of a number, which is preprocessed as (value - origin - offset) * factor.
        low, high, mean: of the numbers that were there, raw, less the origin.
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


def describe_columns(fitted: tuple[FittedColumn, ...]) -> list[dict[str, Any]]:
    """As plain JSON."""
    return [_describe(one) for one in fitted]


def read_columns(told: list[Any]) -> tuple[FittedColumn, ...]:
    """What `describe_columns` told.

    Raises:
        ValueError: it is nothing that it could have told; it names the column.
    """
    if not isinstance(told, list) or not told:
        raise ValueError(f"columns are {type(told).__name__}, not a list of some")
    fitted = tuple(_read(number, one) for number, one in enumerate(told))
    names = [one.column.name for one in fitted]
    if len(set(names)) != len(names):
        raise ValueError(f"columns of one name: {names}")
    return fitted


def spell(rows: NDArray[np.floating], columns: tuple[Column, ...]) -> list[list[Any]]:
    """Raw rows, (n, width) floats, as JSON takes them: words for categories, true and false, None for missing."""
    if not columns:
        plain: list[list[Any]] = rows.tolist()
        return plain
    words = [_words(column) for column in columns]
    return [[_spelt(value, known) for value, known in zip(row, words, strict=True)] for row in rows.tolist()]


def _words(column: Column) -> tuple[Any, ...]:
    return (False, True) if column.kind == "boolean" else column.values


def _spelt(value: float, words: tuple[Any, ...]) -> Any:
    if math.isnan(value):
        return None
    return words[int(value)] if words else value


def _describe(fitted: FittedColumn) -> dict[str, Any]:
    column = fitted.column
    told: dict[str, Any] = {"name": column.name, "kind": column.kind, "missing": fitted.missing}
    if column.kind == "numeric":
        return told | {name: getattr(fitted, name) for name in _NUMBERS}
    values = {"values": list(column.values)} if column.kind == "categorical" else {}
    return told | values | {"counts": list(fitted.counts)}


def _read(number: int, told: Any) -> FittedColumn:
    place = f"column {number}"
    if not isinstance(told, dict) or told.get("kind") not in get_args(ColumnKind):
        raise ValueError(f"{place} is of no known kind")
    kind, name = told["kind"], told.get("name")
    own = {"numeric": {*_NUMBERS}, "boolean": {"counts"}, "categorical": {"values", "counts"}}[kind]
    if told.keys() != {"name", "kind", "missing"} | own:
        raise ValueError(f"{place} has the keys {', '.join(sorted(map(str, told)))}")
    if not isinstance(name, str):
        raise ValueError(f"{place} has the name {name!r}")
    missing = _count(f"{place}, missing", told["missing"])
    if kind == "numeric":
        return _read_number(place, Column(name), missing, told)
    values = BOOLEANS if kind == "boolean" else _texts(f"{place}, values", told["values"])
    counts = told["counts"]
    if not isinstance(counts, list) or len(counts) != len(values):
        raise ValueError(f"{place} has not one count for each of its {len(values)} values")
    return FittedColumn(
        Column(name, kind, values), missing, tuple(_count(f"{place}, counts", count) for count in counts)
    )


def _read_number(place: str, column: Column, missing: int, told: dict[str, Any]) -> FittedColumn:
    numbers = {name: told[name] for name in _NUMBERS}
    for name, value in numbers.items():
        if type(value) not in {int, float} or not abs(value) <= _LARGEST:  # NaN is not
            raise ValueError(f"{place} has {name} {value!r}, no finite number that fits float32")
    if numbers["factor"] <= 0 or numbers["low"] > numbers["high"]:
        raise ValueError(f"{place} has factor {numbers['factor']}, low {numbers['low']}, high {numbers['high']}")
    return dataclasses.replace(FittedColumn(column, missing), **numbers)


def _texts(place: str, told: Any) -> tuple[str, ...]:
    if not isinstance(told, list) or not told or not all(isinstance(value, str) for value in told):
        raise ValueError(f"{place} are not texts")
    if len(set(told)) != len(told):
        raise ValueError(f"{place} has one twice")
    return tuple(told)


def _count(place: str, told: Any) -> int:
    if type(told) is not int or told < 0:
        raise ValueError(f"{place} is {told!r}, no count")
    return told
