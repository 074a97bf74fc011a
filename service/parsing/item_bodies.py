"""From the JSON of items to one validated batch.

simdjson reads plain items, each of which has one flat row and no other list; all other items, and all wrong items, are
read value by value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import simdjson

from lookalike.index.changes.inputs import Input
from lookalike.index.items.ids import IDS, id_problem
from lookalike.index.items.integers import INTEGERS, REMEDY, find_large, may_hold_large
from lookalike.service.errors import RequestError, TooLargeError
from lookalike.service.parsing.decoding import validate
from lookalike.service.parsing.json_bodies import MAX_FIELDS, check_items, parse_exactly
from lookalike.service.parsing.json_rows import rows_from_json
from lookalike.service.parsing.request_models import Item, PutRequest
from lookalike.service.parsing.rows import JSON_ERRORS, RequestLimits, check_count, parser_for, to_float32
from lookalike.training.array_types import Doubles

__all__ = ["MAX_PAYLOAD", "ItemBatch", "decode_items"]

MAX_PAYLOAD = 1 << 16
"""Bytes of one payload, as JSON."""
_Parts = tuple[list[str], list[Any], Doubles]
"""Ids, payloads and rows (n, width)."""


@dataclass(frozen=True)
class ItemBatch:
    """Validated items: n different ids, rows (n, width), and n payloads as JSON texts.

    The rows are as the client sent them: float32, or float64 if the encoder has an origin, which is not subtracted yet.
    """

    ids: list[str]
    rows: Input
    payloads: list[str]


def decode_items(body: bytes, limits: RequestLimits) -> ItemBatch:
    """JSON {"items": [{"id", "input", "payload"}, ...]} -> a batch; without an encoder, "embedding" for "input".

    Raises MalformedError, RequestError or TooLargeError, which names the item's number and the field.
    """
    ids, payloads, values = _read_plain(body, limits) or _read(body, limits)
    _check_ids(ids)
    texts = [_payload(payload, f"items[{number}].payload") for number, payload in enumerate(payloads)]
    rows = to_float32(values, "inputs", limits, _place(limits))
    return ItemBatch(ids, rows if limits.origin is None else values, texts)


def _read(body: bytes, limits: RequestLimits) -> _Parts:
    check_items(body, limits)
    fields = parse_exactly(body)
    listed = fields.get("items") if isinstance(fields, dict) else None
    for number, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, dict) and len(item) > MAX_FIELDS:  # the model keeps an error for each unknown field
            raise RequestError(
                f"items[{number}]", expected=f"id, {limits.item_field} and payload", found=f"{len(item)} fields"
            )
    items = validate(PutRequest, fields).items
    check_count(len(items), "items", limits)
    values = [_value(item, number, limits) for number, item in enumerate(items)]
    rows = rows_from_json(values, "inputs", limits, _place(limits))
    return [item.id for item in items], [item.payload for item in items], rows


def _place(limits: RequestLimits) -> str:
    """The field of the row of item {}."""
    return f"items[{{}}].{limits.item_field}"


def _value(item: Item, number: int, limits: RequestLimits) -> Any:
    """The input of an item, or its embedding if there is no encoder."""
    needed, other = limits.item_field, "embedding" if limits.embeds else "input"
    place = f"items[{number}]"
    if other in item.model_fields_set:
        reason = "this version embeds inputs" if limits.embeds else "this version has no encoder"
        raise RequestError(f"{place}.{other}", expected=f"{needed} instead, because {reason}", found="a value")
    if needed not in item.model_fields_set:
        raise RequestError(f"{place}.{needed}", expected="a value", found="nothing")
    return getattr(item, needed)


def _read_plain(body: bytes, limits: RequestLimits) -> _Parts | None:
    """Plain items; None for every other body. Not for two threads at once."""
    if limits.table and not limits.table.numeric:
        return None
    try:
        return _read_flat(parser_for(body), body, limits)
    except JSON_ERRORS:
        return None


def _read_flat(parser: simdjson.Parser, body: bytes, limits: RequestLimits) -> _Parts | None:
    document = parser.parse(body)
    if not isinstance(document, simdjson.Object) or list(document) != ["items"]:
        return None
    items = document["items"]
    if not isinstance(items, simdjson.Array) or not 0 < len(items) <= limits.max_rows:
        return None
    if body.count(b"[") != 1 + len(items):
        return None
    accepted = sorted(("id", limits.item_field)), sorted(("id", limits.item_field, "payload"))
    ids, payloads, rows = [], [], np.empty((len(items), limits.width("inputs")))
    for number, item in enumerate(items):
        if not isinstance(item, simdjson.Object):
            return None
        names = list(item)
        if sorted(names) not in accepted:  # also if a name occurs twice
            return None
        name, row, payload = item["id"], item[limits.item_field], item["payload"] if len(names) > 2 else None
        if not isinstance(name, str) or not isinstance(row, simdjson.Array) or len(row) != rows.shape[1]:
            return None
        if len(names) > 2 and not isinstance(payload, simdjson.Object):
            return None
        rows[number] = np.frombuffer(row.as_buffer(of_type="d"))
        ids.append(name)
        payloads.append(orjson.loads(payload.mini) if isinstance(payload, simdjson.Object) else {})
    return ids, payloads, rows


def _check_ids(ids: list[str]) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(ids):
        place = f"items[{number}].id"
        if found := id_problem(name):
            raise RequestError(place, expected=IDS, found=found)
        if first.setdefault(name, number) != number:
            raise RequestError(place, expected="each id once", found=f"the id of items[{first[name]}]")


def _payload(payload: dict[str, Any], place: str) -> str:
    try:
        text = orjson.dumps(payload)
    except orjson.JSONEncodeError as error:  # it was JSON, but it is deep or has an integer beyond 64 bits
        _check_integers(payload, place)
        raise RequestError(place, expected="at most 254 levels of nesting", found="more levels") from error
    if may_hold_large(text):
        _check_integers(payload, place)
    if len(text) > MAX_PAYLOAD:
        raise TooLargeError(place, expected=f"at most {MAX_PAYLOAD} bytes of JSON", found=str(len(text)))
    return text.decode()


def _check_integers(payload: dict[str, Any], place: str) -> None:
    if large := find_large(payload, place):
        raise RequestError(large[0], expected=INTEGERS, found=large[1], remedy=REMEDY)
