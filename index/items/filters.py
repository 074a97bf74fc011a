"""Filters on payloads: the columns that a filter looks in, what a filter may say, and the items that pass it.

Columns are named KIND:FIELD and hold null where an item has no such value. A value stands in the column of its own
kind, so nothing is rounded, and a field of mixed kinds has several columns:

integer   int64    an integer, which is within int64 (index.items.integers)
number    float64  any other number
text      string   text (but not half of a surrogate pair, which UTF-8 cannot hold)
flag      bool     true or false
other     bool     true for a list, an object, and what no other kind holds: only `exists` looks here

A list has its elements by kind in integers, numbers, texts and flags too; a condition holds for a list where it
holds for one element. An object's fields are named by their path: {"a": {"b": 1}} has the fields a and a.b.
A JSON null is as good as absent. Of two values of one kind under one name ("a.b" twice) the first counts.

A filter is one of

{"field": F, "equal": V}    {"field": F, "in": [V, ...]}    {"field": F, "exists": true | false}
{"field": F, "range": {"gt" | "gte" | "lt" | "lte": V, ...}}    all numbers, or all texts, by code point
{"and": [FILTER, ...]}      {"or": [FILTER, ...]}           {"not": FILTER}

Numbers compare exactly, and never with a text or a flag. `not` is the complement: an item without the field passes
a `not equal`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.index.errors import QueryError
from lookalike.index.items.integers import INT64_MAX, INT64_MIN, INTEGERS
from lookalike.index.limits import MAX_CONDITIONS, MAX_VALUES, FilterBudget
from lookalike.index.shown import truncate_repr

__all__ = ["Combined", "Exists", "FieldTypes", "Filter", "Matches", "Within", "allowed", "read_filter"]

MAX_FIELDS = 256  # that become columns, the first seen first
MAX_NAME = 256  # characters of a field's path; one with a longer path is no column
MAX_DEPTH = 16  # of objects in a payload that are looked into, and of and, or, not in a filter
_SINGLE = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string(), "flag": pa.bool_()}
_TYPES = _SINGLE | {f"{kind}s": pa.list_(single) for kind, single in _SINGLE.items()} | {"other": pa.bool_()}
_SHAPES = [{"and"}, {"or"}, {"not"}, *({"field", word} for word in ("equal", "in", "range", "exists"))]
_Test: TypeAlias = tuple[Callable[..., Any], Any]  # of values, and what they are compared with
_COMPARE = {"gt": pc.greater, "gte": pc.greater_equal, "lt": pc.less, "lte": pc.less_equal}


class FieldTypes:
    """Learns in a first pass over the payloads which columns they need, and makes them in a second."""

    def __init__(self, beside: Iterable[str] = ()) -> None:
        """`beside`: names of columns that other payloads have, whose fields count as the first seen."""
        self._kinds: dict[str, set[str]] = {field: set() for field in _fields(beside)}

    def see(self, payloads: list[dict[str, Any]]) -> None:
        """Take note of a batch's fields and of the kinds of their values."""
        for payload in payloads:
            for kind, field, _ in _cells(payload):
                if field in self._kinds or len(self._kinds) < MAX_FIELDS:
                    self._kinds.setdefault(field, set()).add(kind)

    def schema(self) -> pa.Schema:
        """The columns for what was seen, by field in the order seen."""
        kinds = ((kind, field) for field, seen in self._kinds.items() for kind in _TYPES if kind in seen)
        return pa.schema([(f"{kind}:{field}", _TYPES[kind]) for kind, field in kinds])

    def arrays(self, payloads: list[dict[str, Any]]) -> list[pa.Array]:
        """One array (n,) a column of the schema; a value that `see` was not shown has no place in them."""
        schema = self.schema()
        columns: dict[str, list[Any]] = {name: [None] * len(payloads) for name in schema.names}
        for row, payload in enumerate(payloads):
            for kind, field, value in _cells(payload):
                column = columns.get(f"{kind}:{field}")
                if column is not None and column[row] is None:
                    column[row] = value
        return [pa.array(columns[column.name], column.type) for column in schema]


@dataclass(frozen=True, slots=True)
class Matches:
    """The field holds one of these. Numbers and flags are apart because Python takes 1 and True for equal."""

    field: str
    numbers: frozenset[int | float] = frozenset()
    texts: frozenset[str] = frozenset()
    flags: frozenset[bool] = frozenset()


@dataclass(frozen=True, slots=True)
class Within:
    """The field holds a value within all bounds, (gt | gte | lt | lte, value), which are all numbers or all texts."""

    field: str
    bounds: tuple[tuple[str, int | float | str], ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """The field holds something (or, where not `present`, nothing)."""

    field: str
    present: bool


@dataclass(frozen=True, slots=True)
class Combined:
    """How the word (and | or | not) joins filters; `not` has one."""

    word: str
    of: "tuple[Filter, ...]"


Filter: TypeAlias = Matches | Within | Exists | Combined


def read_filter(given: object) -> Filter:
    """The filter that parsed JSON says; equal filters are equal and hash alike.

    Raises:
        QueryError: it is no filter (its `field` is the path, such as filter.and[1].range.gte), or too large a one.
    """
    return _read(given, "filter", 0, FilterBudget())


def allowed(
    table: pa.Table, given: Filter, *, beside: pa.Schema | None = None, where: str = "filter"
) -> NDArray[np.bool_]:
    """(n,) bool: which rows of a table with FieldTypes' columns (and any others) pass the filter.

    Args:
        beside: the columns of other items: a field that only those have may be asked for, and no row here has it.

    Raises:
        QueryError: it asks for a field that no item has, or for a range over none of the field's kinds.
    """
    if isinstance(given, Combined):
        if given.word == "not":
            return ~allowed(table, given.of[0], beside=beside, where=f"{where}.not")
        masks = (
            allowed(table, part, beside=beside, where=f"{where}.{given.word}[{i}]") for i, part in enumerate(given.of)
        )
        return reduce(np.logical_and if given.word == "and" else np.logical_or, masks)
    here = table.column_names
    kinds = _kinds([*here, *(beside.names if beside else [])], given.field, where)
    columns = {kind: table.column(name) for kind, name in kinds.items() if name in here}
    mask = np.zeros(table.num_rows, np.bool_)
    if isinstance(given, Exists):
        held: NDArray[np.bool_] = reduce(np.logical_or, (pc.is_valid(c).to_numpy() for c in columns.values()), mask)
        return held if given.present else ~held
    tests = _tests(given)
    if isinstance(given, Within) and not any(kind.removesuffix("s") in tests for kind in kinds):
        expected = f"a range over what {truncate_repr(given.field)} holds ({', '.join(kinds)})"
        raise QueryError(f"{where}.range", expected=expected, found="texts" if "text" in tests else "numbers")
    for kind, column in columns.items():
        if kind in tests:
            mask |= _hits(column, tests[kind])
        elif kind.removesuffix("s") in tests:
            rows = pc.list_parent_indices(column).to_numpy()  # (elements,)
            mask[rows[_hits(pc.list_flatten(column), tests[kind.removesuffix("s")])]] = True
    return mask


def _cells(item: dict[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, str, Any]]:
    """Kind, field and value of all that columns can hold; objects below MAX_DEPTH are not looked into."""
    for key, value in item.items():
        field = f"{prefix}{key}"
        if value is None or len(field) > MAX_NAME or not _is_utf8(field):
            continue
        if isinstance(value, dict):
            yield "other", field, True
            if depth < MAX_DEPTH:
                yield from _cells(value, f"{field}.", depth + 1)
        elif isinstance(value, list | tuple):
            yield "other", field, True
            typed = [_typed(element) for element in value]
            for kind in _SINGLE:
                if held := [element for of, element in typed if of == kind]:
                    yield f"{kind}s", field, held
        else:
            kind, value = _typed(value)
            yield kind, field, value


def _typed(value: Any) -> tuple[str, Any]:
    """A value's kind and the value as its column holds it; what JSON has no word for is its text, as in the items."""
    if isinstance(value, bool):
        return "flag", value
    if isinstance(value, int):
        return ("integer", int(value)) if INT64_MIN <= value <= INT64_MAX else ("other", True)
    if isinstance(value, float):
        return "number", value + 0.0  # -0.0 becomes 0.0: is_in tells them apart
    if value is None or isinstance(value, dict | list | tuple):
        return "other", True
    text = value if isinstance(value, str) else str(value)
    return ("text", text) if _is_utf8(text) else ("other", True)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nearest(value: int | float) -> float:
    """The float64 nearest to a number; 0.0 for -0.0."""
    return float(value) + 0.0


def _read(given: Any, where: str, depth: int, budget: FilterBudget) -> Filter:
    """The filter at a path, within the budget of the whole."""
    if not isinstance(given, dict) or given.keys() not in _SHAPES:
        shape = "field with one of equal, in, range, exists; or one of and, or, not"
        raise QueryError(where, expected=shape, found=truncate_repr(given))
    if "field" in given:
        return _condition(given, where, budget)
    if depth == MAX_DEPTH:
        raise QueryError(where, expected=f"at most {MAX_DEPTH} of and, or, not in one another", found="more")
    [(word, inner)] = given.items()
    if word == "not":
        return Combined(word, (_read(inner, f"{where}.not", depth + 1, budget),))
    parts = enumerate(_listed(inner, f"{where}.{word}", MAX_CONDITIONS))
    return Combined(word, tuple(_read(part, f"{where}.{word}[{i}]", depth + 1, budget) for i, part in parts))


def _condition(given: dict[str, Any], where: str, budget: FilterBudget) -> Filter:
    field = given["field"]
    if _sort(field) != "texts":
        raise QueryError(f"{where}.field", expected="a field's name", found=truncate_repr(field))
    listed = _listed(given["in"], f"{where}.in", MAX_VALUES) if "in" in given else []
    bounds = given.get("range")
    budget.take(field, listed or (list(bounds.values()) if isinstance(bounds, dict) else [given.get("equal")]))
    if "equal" in given:
        return _matches(field, [given["equal"]], lambda _: f"{where}.equal")
    if "in" in given:
        return _matches(field, listed, lambda i: f"{where}.in[{i}]")
    if "range" in given:
        return _within(field, given["range"], f"{where}.range")
    if not isinstance(given["exists"], bool):
        raise QueryError(f"{where}.exists", expected="true or false", found=truncate_repr(given["exists"]))
    return Exists(field, given["exists"])


def _matches(field: str, values: list[Any], where: Callable[[int], str]) -> Matches:
    sorts: dict[str, list[Any]] = {"numbers": [], "texts": [], "flags": []}
    for place, value in enumerate(values):
        sort = _sort(value)
        if sort is None:
            expected = f"a finite number ({INTEGERS}), a text, true or false"
            raise QueryError(where(place), expected=expected, found=truncate_repr(value))
        sorts[sort].append(value)
    return Matches(field, **{sort: frozenset(kept) for sort, kept in sorts.items()})


def _within(field: str, given: object, where: str) -> Within:
    if not (isinstance(given, dict) and given and len(given) <= len(_COMPARE) and given.keys() <= _COMPARE.keys()):
        raise QueryError(where, expected="an object of one or more of gt, gte, lt, lte", found=truncate_repr(given))
    bounds = tuple((word, given[word]) for word in _COMPARE if word in given)
    for word, value in bounds:
        if _sort(value) in (None, "flags") or _sort(value) != _sort(bounds[0][1]):
            expected = f"finite numbers ({INTEGERS}) or texts, all alike"
            raise QueryError(f"{where}.{word}", expected=expected, found=truncate_repr(value))
    return Within(field, bounds)


def _listed(given: object, where: str, most: int) -> list[Any]:
    if not (isinstance(given, list) and 0 < len(given) <= most):
        raise QueryError(where, expected=f"a list of 1 to {most:,}", found=truncate_repr(given))
    return given


def _sort(value: object) -> str | None:
    """Which values a filter's value compares with: numbers, texts, flags, or (None) none at all."""
    if isinstance(value, bool):
        return "flags"
    if isinstance(value, int):
        return "numbers" if INT64_MIN <= value <= INT64_MAX else None
    if isinstance(value, float) and math.isfinite(value):
        return "numbers"
    return "texts" if isinstance(value, str) and _is_utf8(value) else None


def _kinds(names: list[str], field: str, where: str) -> dict[str, str]:
    """The kinds that a field has among these columns, each with its column's name."""
    kinds = {kind: f"{kind}:{field}" for kind in _TYPES if f"{kind}:{field}" in names}
    if kinds:
        return kinds
    known = _fields(names)
    some = ", ".join(map(truncate_repr, known[:8])) + (", …" if len(known) > 8 else "")
    full = f"Only the first {MAX_FIELDS} fields can be filtered by." if len(known) >= MAX_FIELDS else ""
    expected = f"a field of the items ({some})" if known else "no filter, as no item has a field"
    raise QueryError(f"{where}.field", expected=expected, found=truncate_repr(field), remedy=full)


def _fields(names: Iterable[str]) -> list[str]:
    parts = (name.partition(":") for name in names)
    return list(dict.fromkeys(field for kind, colon, field in parts if colon and kind in _TYPES))


def _hits(values: pa.ChunkedArray, tests: list[_Test]) -> NDArray[np.bool_]:
    passed = reduce(pc.and_, (test(values, value) for test, value in tests))
    hits: NDArray[np.bool_] = pc.fill_null(passed, False).to_numpy()
    return hits


def _tests(given: Matches | Within) -> dict[str, list[_Test]]:
    """By kind, the tests that a value of the kind has to pass; a kind that cannot pass has none."""
    if isinstance(given, Within):
        if isinstance(given.bounds[0][1], str):
            return {"text": [(_COMPARE[word], value) for word, value in given.bounds]}
        return {
            "integer": [_whole_bound(word, value) for word, value in given.bounds],
            "number": [_real_bound(word, value) for word, value in given.bounds],
        }
    wanted: dict[str, list[Any]] = {
        "integer": [int(n) for n in given.numbers if INT64_MIN <= n <= INT64_MAX and n == math.floor(n)],
        "number": [_nearest(n) for n in given.numbers if _nearest(n) == n],
        "text": list(given.texts),
        "flag": list(given.flags),
    }
    return {
        # equal is several times faster than is_in
        kind: [(pc.equal, values[0]) if len(values) == 1 else (pc.is_in, pa.array(values, _SINGLE[kind]))]
        for kind, values in wanted.items()
        if values
    }


def _whole_bound(word: str, value: Any) -> _Test:
    """The bound on int64 that the same whole numbers keep to."""
    edge = math.floor(value) + 1 if word in ("gt", "lte") else math.ceil(value)  # x >= edge, or x < edge
    low, high = ("gt", "lte") if edge > INT64_MAX else ("gte", "lt")
    return _COMPARE[low if word in ("gt", "gte") else high], min(max(edge, INT64_MIN), INT64_MAX)


def _real_bound(word: str, value: Any) -> _Test:
    """The bound on float64 that the same float64s keep to."""
    near = _nearest(value)
    low, high = ("gte", "lt") if near > value else ("gt", "lte")
    return _COMPARE[word if near == value else low if word in ("gt", "gte") else high], near
