"""Filters on payloads: their syntax, and the items that pass a filter. They use the columns of index.items.fields.

A filter is one of

{"field": F, "equal": V}    {"field": F, "in": [V, ...]}    {"field": F, "exists": true | false}
{"field": F, "range": {"gt" | "gte" | "lt" | "lte": V, ...}}    all numbers, or all texts, by code point
{"and": [FILTER, ...]}      {"or": [FILTER, ...]}           {"not": FILTER}

Numbers compare exactly, and never with a text or a flag. `not` is the complement: an item without the field passes
a `not equal`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.index.errors import QueryError
from lookalike.index.items.fields import MAX_DEPTH, MAX_FIELDS, SINGLE, TYPES, fields_in, is_utf8
from lookalike.index.items.integers import INT64_MAX, INT64_MIN, INTEGERS
from lookalike.index.limits import MAX_CONDITIONS, MAX_VALUES, FilterBudget
from lookalike.index.shown import truncate_repr
from lookalike.training.array_types import Booleans

__all__ = ["Combined", "Exists", "Filter", "Matches", "Within", "allowed", "read_filter"]

_SHAPES = [{"and"}, {"or"}, {"not"}, *({"field", word} for word in ("equal", "in", "range", "exists"))]
_Test: TypeAlias = tuple[Callable[..., Any], Any]  # a comparison, and the value to compare with
_COMPARE = {"gt": pc.greater, "gte": pc.greater_equal, "lt": pc.less, "lte": pc.less_equal}


@dataclass(frozen=True, slots=True)
class Matches:
    """The field has one of these values. Numbers and flags are separate because 1 == True in Python."""

    field: str
    numbers: frozenset[int | float] = frozenset()
    texts: frozenset[str] = frozenset()
    flags: frozenset[bool] = frozenset()


@dataclass(frozen=True, slots=True)
class Within:
    """The field has a value within all bounds, (gt | gte | lt | lte, value), which are all numbers or all texts."""

    field: str
    bounds: tuple[tuple[str, int | float | str], ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value, or, if `present` is false, has no value."""

    field: str
    present: bool


@dataclass(frozen=True, slots=True)
class Combined:
    """Filters combined by a word (and | or | not); `not` has one filter."""

    word: str
    of: "tuple[Filter, ...]"


Filter: TypeAlias = Matches | Within | Exists | Combined


def read_filter(source: object) -> Filter:
    """Parse a filter from JSON values; equivalent filters are equal and have equal hashes.

    Raises QueryError, with a path such as filter.and[1].range.gte as `field`, if it is not a filter, or is too large.
    """
    return _read(source, "filter", 0, FilterBudget())


def allowed(table: pa.Table, filter_: Filter, *, beside: pa.Schema | None = None, path: str = "filter") -> Booleans:
    """Return which rows of a table pass the filter, (n,) bool. The table has the columns of FieldTypes, and any others.

    Args:
        beside: the columns of other items: the filter may use their fields, which no row of `table` has.

    Raises:
        QueryError: the filter uses a field that no item has, or a range of another kind than the field's values.
    """
    if isinstance(filter_, Combined):
        if filter_.word == "not":
            return ~allowed(table, filter_.of[0], beside=beside, path=f"{path}.not")
        parts = enumerate(filter_.of)
        masks = (allowed(table, part, beside=beside, path=f"{path}.{filter_.word}[{i}]") for i, part in parts)
        return reduce(np.logical_and if filter_.word == "and" else np.logical_or, masks)
    names = table.column_names
    kinds = _kinds([*names, *(beside.names if beside else [])], filter_.field, path)
    columns = {kind: table.column(name) for kind, name in kinds.items() if name in names}
    mask = np.zeros(table.num_rows, np.bool_)
    if isinstance(filter_, Exists):
        present: Booleans = reduce(np.logical_or, (pc.is_valid(c).to_numpy() for c in columns.values()), mask)
        return present if filter_.present else ~present
    tests = _tests(filter_)
    if isinstance(filter_, Within) and not any(kind.removesuffix("s") in tests for kind in kinds):
        expected = f"a range of the kind of the values of {truncate_repr(filter_.field)} ({', '.join(kinds)})"
        raise QueryError(f"{path}.range", expected=expected, found="texts" if "text" in tests else "numbers")
    for kind, column in columns.items():
        if kind in tests:
            mask |= _hits(column, tests[kind])
        elif kind.removesuffix("s") in tests:
            rows = pc.list_parent_indices(column).to_numpy()  # (elements,)
            mask[rows[_hits(pc.list_flatten(column), tests[kind.removesuffix("s")])]] = True
    return mask


def _read(source: Any, path: str, depth: int, budget: FilterBudget) -> Filter:
    if not isinstance(source, dict) or source.keys() not in _SHAPES:
        shape = "field with one of equal, in, range, exists; or one of and, or, not"
        raise QueryError(path, expected=shape, found=truncate_repr(source))
    if "field" in source:
        return _condition(source, path, budget)
    if depth == MAX_DEPTH:
        raise QueryError(path, expected=f"at most {MAX_DEPTH} nested levels of and, or, not", found="more levels")
    [(word, inner)] = source.items()
    if word == "not":
        return Combined(word, (_read(inner, f"{path}.not", depth + 1, budget),))
    parts = enumerate(_checked_list(inner, f"{path}.{word}", MAX_CONDITIONS))
    return Combined(word, tuple(_read(part, f"{path}.{word}[{i}]", depth + 1, budget) for i, part in parts))


def _condition(source: dict[str, Any], path: str, budget: FilterBudget) -> Filter:
    field = source["field"]
    if _value_type(field) != "texts":
        raise QueryError(f"{path}.field", expected="the name of a field", found=truncate_repr(field))
    values = _checked_list(source["in"], f"{path}.in", MAX_VALUES) if "in" in source else []
    bounds = source.get("range")
    budget.take(field, values or (list(bounds.values()) if isinstance(bounds, dict) else [source.get("equal")]))
    if "equal" in source:
        return _matches(field, [source["equal"]], lambda _: f"{path}.equal")
    if "in" in source:
        return _matches(field, values, lambda i: f"{path}.in[{i}]")
    if "range" in source:
        return _within(field, source["range"], f"{path}.range")
    if not isinstance(source["exists"], bool):
        raise QueryError(f"{path}.exists", expected="true or false", found=truncate_repr(source["exists"]))
    return Exists(field, source["exists"])


def _matches(field: str, values: list[Any], path_of: Callable[[int], str]) -> Matches:
    by_type: dict[str, list[Any]] = {"numbers": [], "texts": [], "flags": []}
    for number, value in enumerate(values):
        value_type = _value_type(value)
        if value_type is None:
            expected = f"a finite number ({INTEGERS}), a text, true or false"
            raise QueryError(path_of(number), expected=expected, found=truncate_repr(value))
        by_type[value_type].append(value)
    return Matches(field, **{value_type: frozenset(members) for value_type, members in by_type.items()})


def _within(field: str, source: object, path: str) -> Within:
    if not (isinstance(source, dict) and source and len(source) <= len(_COMPARE) and source.keys() <= _COMPARE.keys()):
        raise QueryError(path, expected="an object of one or more of gt, gte, lt, lte", found=truncate_repr(source))
    bounds = tuple((word, source[word]) for word in _COMPARE if word in source)
    for word, value in bounds:
        if _value_type(value) in (None, "flags") or _value_type(value) != _value_type(bounds[0][1]):
            expected = f"only finite numbers ({INTEGERS}), or only texts"
            raise QueryError(f"{path}.{word}", expected=expected, found=truncate_repr(value))
    return Within(field, bounds)


def _checked_list(source: object, path: str, most: int) -> list[Any]:
    if not (isinstance(source, list) and 0 < len(source) <= most):
        raise QueryError(path, expected=f"a list of 1 to {most:,}", found=truncate_repr(source))
    return source


def _value_type(value: object) -> str | None:
    """Return which values a filter's value compares with: numbers, texts or flags; None if it compares with none."""
    if isinstance(value, bool):
        return "flags"
    if isinstance(value, int):
        return "numbers" if INT64_MIN <= value <= INT64_MAX else None
    if isinstance(value, float) and math.isfinite(value):
        return "numbers"
    return "texts" if isinstance(value, str) and is_utf8(value) else None


def _kinds(names: list[str], field: str, path: str) -> dict[str, str]:
    """Return the kinds of a field among these columns, each with the name of its column."""
    kinds = {kind: f"{kind}:{field}" for kind in TYPES if f"{kind}:{field}" in names}
    if kinds:
        return kinds
    known = fields_in(names)
    listed = ", ".join(map(truncate_repr, known[:8])) + (", …" if len(known) > 8 else "")
    remedy = f"Only the first {MAX_FIELDS} fields can be used in filters." if len(known) >= MAX_FIELDS else ""
    expected = f"a field of the items ({listed})" if known else "no filter, because no item has a field"
    raise QueryError(f"{path}.field", expected=expected, found=truncate_repr(field), remedy=remedy)


def _hits(values: pa.ChunkedArray, tests: list[_Test]) -> Booleans:
    passed = reduce(pc.and_, (test(values, value) for test, value in tests))
    hits: Booleans = pc.fill_null(passed, False).to_numpy()
    return hits


def _tests(condition: Matches | Within) -> dict[str, list[_Test]]:
    """Return, by kind, the tests that a value of the kind must pass; a kind that cannot pass is left out."""
    if isinstance(condition, Within):
        if isinstance(condition.bounds[0][1], str):
            return {"text": [(_COMPARE[word], value) for word, value in condition.bounds]}
        return {
            "integer": [_integer_bound(word, value) for word, value in condition.bounds],
            "number": [_float_bound(word, value) for word, value in condition.bounds],
        }
    candidates: dict[str, list[Any]] = {
        "integer": [int(n) for n in condition.numbers if INT64_MIN <= n <= INT64_MAX and n == math.floor(n)],
        "number": [float(n) + 0.0 for n in condition.numbers if float(n) == n],  # 0.0 for -0.0
        "text": list(condition.texts),
        "flag": list(condition.flags),
    }
    return {
        # equal is several times faster than is_in
        kind: [(pc.equal, values[0]) if len(values) == 1 else (pc.is_in, pa.array(values, SINGLE[kind]))]
        for kind, values in candidates.items()
        if values
    }


def _integer_bound(word: str, value: Any) -> _Test:
    """Return an int64 bound that the same integers satisfy."""
    edge = math.floor(value) + 1 if word in ("gt", "lte") else math.ceil(value)  # x >= edge, or x < edge
    low, high = ("gt", "lte") if edge > INT64_MAX else ("gte", "lt")
    return _COMPARE[low if word in ("gt", "gte") else high], min(max(edge, INT64_MIN), INT64_MAX)


def _float_bound(word: str, value: Any) -> _Test:
    """Return a float64 bound that the same float64 values satisfy."""
    near = float(value) + 0.0  # 0.0 for -0.0
    low, high = ("gte", "lt") if near > value else ("gt", "lte")
    return _COMPARE[word if near == value else low if word in ("gt", "gte") else high], near
