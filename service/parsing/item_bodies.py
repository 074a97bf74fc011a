"""From the bytes of a body with items to checked ids, rows and payloads.

What is plain is read by service.parsing.numbers; all else, and what is wrong, value by value.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lookalike.index.changes.inputs import Input
from lookalike.index.items.ids import IDS, wrong_id
from lookalike.index.items.integers import INTEGERS, REMEDY, find_large, may_hold_large
from lookalike.service.errors import RequestError, TooLargeError, truncate_repr
from lookalike.service.parsing.decoding import RequestLimits, check_count, read_object
from lookalike.service.parsing.numbers import check_sizes, read_items
from lookalike.service.parsing.query_strings import exact
from lookalike.training.tables.origin import relative

__all__ = ["MAX_PAYLOAD", "ItemsAsked", "decode_items"]

MAX_PAYLOAD = 1 << 16
"""Bytes of one payload, as JSON."""
BRACKETS = 16
"""Bytes of a body, of which one may be a bracket, beyond those of the rows."""
_FIELDS = {"id", "input", "payload"}
_NUMBERS = {int, float}


@dataclass(frozen=True)
class ItemsAsked:
    """Checked items: n ids that differ, rows (n, width), and n payloads as JSON texts.

    The rows are as the client sent them: float32, or float64 if the encoder has an origin, which is not subtracted yet.
    """

    ids: list[str]
    rows: Input
    payloads: list[str]


def decode_items(body: bytes, limits: RequestLimits) -> ItemsAsked:
    """JSON {"items": [{"id", "input", "payload"}, ...]} -> checked items.

    Raises:
        MalformedError, RequestError, TooLargeError: it names the item's number and the field.
    """
    plain = None
    if limits.table is None or limits.table.numeric:
        plain = read_items(body, limits.max_rows, limits.width("inputs"))
    if plain:
        ids, payloads, values = plain.ids, [orjson.loads(text) for text in plain.payloads], plain.rows
        _check_ids(ids)
    else:
        ids, payloads, values = _read(body, limits)
    texts = [_payload(payload, f"items[{number}].payload") for number, payload in enumerate(payloads)]
    return ItemsAsked(ids, _fitting(values, limits), texts)


def _read(body: bytes, limits: RequestLimits) -> tuple[list[str], list[Any], NDArray[np.float64]]:
    """Ids, payloads and rows (n, width), value by value."""
    _check_objects(body, limits)
    check_sizes(body, limits.max_rows)
    fields = read_object(body, {"items"})
    items = fields.get("items")
    if not isinstance(items, list) or not items:
        raise RequestError("items", expected="a list of items, not empty", found=truncate_repr(items))
    check_count(len(items), "items", limits)
    for number, item in enumerate(items):
        _check_fields(item, f"items[{number}]")
    ids = [item["id"] for item in items]
    _check_ids(ids)
    payloads = [item.get("payload", {}) for item in exact(body, fields)["items"]]
    return ids, payloads, _rows([item["input"] for item in items], limits)


def _check_objects(body: bytes, limits: RequestLimits) -> None:
    """Before one is made of each bracket: an empty list takes two bytes of a body, and some sixty of memory."""
    inner = sum(math.prod(limits.input_shape[:level]) for level in range(len(limits.input_shape)))  # of one row
    most = 1_000 + limits.max_rows * max(inner, 2) + len(body) // BRACKETS
    if body.count(b"[") > most or body.count(b"{") > most:
        raise TooLargeError("body", expected=f"at most {limits.max_rows} items in a call", found="more brackets")


def _check_fields(item: Any, place: str) -> None:
    if not isinstance(item, dict):
        raise RequestError(place, expected="an object with id and input", found=truncate_repr(item))
    if unknown := sorted(item.keys() - _FIELDS):
        field = f"{place}.{unknown[0][:64]}"
        raise RequestError(field, expected=f"one of {', '.join(sorted(_FIELDS))}", found="an unknown field")
    if missing := sorted({"id", "input"} - item.keys()):
        raise RequestError(f"{place}.{missing[0]}", expected="a value", found="nothing")


def _check_ids(ids: list[Any]) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(ids):
        place = f"items[{number}].id"
        if found := wrong_id(name) if isinstance(name, str) else truncate_repr(name):
            raise RequestError(place, expected=IDS, found=found)
        if first.setdefault(name, number) != number:
            raise RequestError(place, expected="ids that differ", found=f"that of items[{first[name]}]")


def _payload(payload: Any, place: str) -> str:
    """Its JSON text."""
    if not isinstance(payload, dict):
        raise RequestError(place, expected="a JSON object", found=truncate_repr(payload))
    try:
        text = orjson.dumps(payload)
    except orjson.JSONEncodeError as error:  # it was JSON before, but deep, or with an integer beyond 64 bits
        _check_integers(payload, place)
        raise RequestError(place, expected="at most 254 values within each other", found="more") from error
    if may_hold_large(text):
        _check_integers(payload, place)
    if len(text) > MAX_PAYLOAD:
        raise TooLargeError(place, expected=f"at most {MAX_PAYLOAD} bytes of JSON", found=str(len(text)))
    return text.decode()


def _check_integers(payload: dict[str, Any], place: str) -> None:
    if large := find_large(payload, place):
        raise RequestError(large[0], expected=INTEGERS, found=large[1], remedy=REMEDY)


def _rows(inputs: list[Any], limits: RequestLimits) -> NDArray[np.float64]:
    """(n, width)."""
    if limits.table and not (limits.table.numeric and all(map(_is_plain, inputs))):
        return limits.table.decode(inputs, "items", ".input")
    values = np.empty((len(inputs), limits.width("inputs")))
    for number, given in enumerate(inputs):
        values[number] = _numbers(given, f"items[{number}].input", limits)
    return values


def _fitting(values: NDArray[np.float64], limits: RequestLimits) -> Input:
    """The same, as the log keeps them; less the origin they fit float32. In a table, NaN is a missing value."""
    rows = relative(values, limits.origin)
    right = ~np.isinf(rows) if limits.table else np.isfinite(rows)
    if not right.all():
        row, column = (int(place) for place in np.argwhere(~right)[0])
        raise RequestError(
            f"items[{row}].input", expected="numbers that fit float32", found=f"too large a one at value {column}"
        )
    return rows if limits.origin is None else values


def _is_plain(given: Any) -> bool:
    return isinstance(given, list) and set(map(type, given)) <= _NUMBERS


def _numbers(given: Any, place: str, limits: RequestLimits) -> list[Any]:
    """The values of one row, flat."""
    flat = _flat(given, limits.input_shape)
    if flat is None:
        raise RequestError(place, expected=_shapes(limits.input_shape), found=_found(given))
    if not set(map(type, flat)) <= _NUMBERS:
        number, value = next((number, value) for number, value in enumerate(flat) if type(value) not in _NUMBERS)
        raise RequestError(place, expected="numbers", found=f"{truncate_repr(value)} at value {number}")
    return flat


def _flat(given: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """The values of a row that is flat, or nested in the shape; None where it is neither."""
    if not isinstance(given, list):
        return None
    if not (given and isinstance(given[0], list)):
        return given if len(given) == math.prod(shape) else None
    lists = [given]
    for size in shape[:-1]:
        if not all(isinstance(inner, list) and len(inner) == size for inner in lists):
            return None
        lists = list(itertools.chain.from_iterable(lists))
    if not all(isinstance(inner, list) and len(inner) == shape[-1] for inner in lists):
        return None
    return list(itertools.chain.from_iterable(lists))


def _shapes(shape: tuple[int, ...]) -> str:
    flat = f"a list of {math.prod(shape)} numbers"
    return flat if len(shape) == 1 else f"{flat}, or lists of shape ({', '.join(map(str, shape))})"


def _found(given: Any) -> str:
    nested = isinstance(given, list) and any(isinstance(inner, list) for inner in given)
    return "lists of another shape" if nested else truncate_repr(given)
