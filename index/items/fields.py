"""The fields of payloads as typed columns, for filters and exports.

Columns are named KIND:FIELD and contain null if an item has no such value. A value is in the column of its kind, so
that nothing is rounded; a field with values of several kinds has several columns:

integer   int64    an integer within int64 (index.items.integers)
number    float64  any other number
text      string   text (except half of a surrogate pair, which UTF-8 cannot represent)
flag      bool     true or false
other     bool     true for a list, an object, and values of no other kind: only `exists` uses this column

The elements of a list are also in columns of integers, numbers, texts and flags, by kind; a list passes a condition if
one element passes it. An object's fields are named by their path: {"a": {"b": 1}} has the fields a and a.b. A JSON null
means absent. If one name has two values of one kind ("a.b" twice), the first one is used.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from lookalike.index.items.integers import INT64_MAX, INT64_MIN

__all__ = ["MAX_DEPTH", "MAX_FIELDS", "SINGLE", "TYPES", "FieldTypes", "fields_in", "is_utf8"]

MAX_FIELDS = 256  # fields that become columns: the first ones
MAX_NAME = 256  # characters in the path of a field; a field with a longer path has no column
MAX_DEPTH = 16  # nesting of objects in a payload that become columns, and of and, or, not in a filter
_PLAIN: dict[str, type] = {"integer": int, "number": float, "text": str, "flag": bool}
SINGLE = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string(), "flag": pa.bool_()}
TYPES = SINGLE | {f"{kind}s": pa.list_(single) for kind, single in SINGLE.items()} | {"other": pa.bool_()}


class FieldTypes:
    """Collects the columns that payloads need in a first pass over them, and builds the columns in a second."""

    def __init__(self, beside: Iterable[str] = ()) -> None:
        """`beside`: column names of other payloads; their fields come first."""
        self._kinds: dict[str, set[str]] = {field: set() for field in fields_in(beside)}
        self._plain: set[tuple[str, type]] = set()
        """The fields with a plain value (`_is_plain`) that were recorded, by the type of the value."""

    def see(self, payloads: Sequence[dict[str, Any]]) -> None:
        """Record the fields of a batch and the kinds of their values."""
        for payload in payloads:
            if all((key, type(value)) in self._plain and _is_plain(value) for key, value in payload.items()):
                continue
            for kind, field, _ in _cells(payload):
                if field in self._kinds or len(self._kinds) < MAX_FIELDS:
                    self._kinds.setdefault(field, set()).add(kind)
            self._plain.update((key, type(value)) for key, value in payload.items() if _is_plain(value))

    def schema(self) -> pa.Schema:
        """Return the columns for all recorded fields, in the order in which the fields were first seen."""
        kinds = ((kind, field) for field, seen in self._kinds.items() for kind in TYPES if kind in seen)
        return pa.schema([(f"{kind}:{field}", TYPES[kind]) for kind, field in kinds])

    def arrays(self, payloads: list[dict[str, Any]]) -> list[pa.Array]:
        """Return one array (n,) for each column of the schema; values that `see` did not record are left out."""
        schema = self.schema()
        columns: dict[str, list[Any]] = {name: [None] * len(payloads) for name in schema.names}
        plain = {
            (name.partition(":")[2], of): column
            for name, column in columns.items()
            if (of := _PLAIN.get(name.partition(":")[0])) and "." not in name
        }
        for row, payload in enumerate(payloads):
            others = {}
            for key, value in payload.items():
                cells = plain.get((key, type(value)))
                if cells is not None and _is_plain(value):
                    cells[row] = value + 0.0 if type(value) is float else value
                elif value is not None:
                    others[key] = value
            for kind, field, value in _cells(others):
                column = columns.get(f"{kind}:{field}")
                if column is not None and column[row] is None:
                    column[row] = value
        return [pa.array(columns[column.name], column.type) for column in schema]


def fields_in(names: Iterable[str]) -> list[str]:
    """Return the fields of columns, in their order."""
    parts = (name.partition(":") for name in names)
    return list(dict.fromkeys(field for kind, colon, field in parts if colon and kind in TYPES))


def _cells(item: dict[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, str, Any]]:
    """Yield the kind, field and value of each column cell of an item; objects deeper than MAX_DEPTH are skipped."""
    for key, value in item.items():
        field = f"{prefix}{key}"
        if value is None or len(field) > MAX_NAME or not is_utf8(field):
            continue
        if isinstance(value, dict):
            yield "other", field, True
            if depth < MAX_DEPTH:
                yield from _cells(value, f"{field}.", depth + 1)
        elif isinstance(value, list | tuple):
            yield "other", field, True
            typed = [_typed(element) for element in value]
            for kind in SINGLE:
                if elements := [element for of, element in typed if of == kind]:
                    yield f"{kind}s", field, elements
        else:
            kind, value = _typed(value)
            yield kind, field, value


def _is_plain(value: Any) -> bool:
    """Whether the kind of a value follows from its type, without a closer look."""
    kind = type(value)
    return (
        kind is float
        or kind is bool
        or (kind is str and value.isascii())
        or (kind is int and INT64_MIN <= value <= INT64_MAX)
    )


def _typed(value: Any) -> tuple[str, Any]:
    """Return a value's kind and its column value; a value that JSON cannot represent becomes text, as in the items."""
    if isinstance(value, bool):
        return "flag", value
    if isinstance(value, int):
        return ("integer", int(value)) if INT64_MIN <= value <= INT64_MAX else ("other", True)
    if isinstance(value, float):
        return "number", value + 0.0  # -0.0 becomes 0.0: is_in distinguishes them
    if value is None or isinstance(value, dict | list | tuple):
        return "other", True
    text = value if isinstance(value, str) else str(value)
    return ("text", text) if is_utf8(text) else ("other", True)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can represent a text: half of a surrogate pair has no form in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
