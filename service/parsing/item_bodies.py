"""From the JSON of items to one validated batch.

simdjson reads plain items, each of which has one flat row and no other list; all other items, and all wrong items, are
read value by value.
"""

from collections.abc import Sequence
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
from lookalike.service.parsing.json_bodies import (
    MAX_FIELDS,
    MAX_PAYLOAD,
    check_items,
    check_payload_bytes,
    parse_exactly,
)
from lookalike.service.parsing.json_rows import rows_from_json
from lookalike.service.parsing.photos import Photo, photos_of_json
from lookalike.service.parsing.request_models import Item, PutRequest
from lookalike.service.parsing.rows import FIELD_BYTES, JSON_ERRORS, RequestLimits, check_count, parser_for, to_float32
from lookalike.service.parsing.segments import Segments, cut_segments, window_items
from lookalike.training.array_types import Doubles

__all__ = ["MAX_PAYLOAD", "ItemBatch", "decode_items", "photo_batch"]

MAX_COPIES = 1 << 24
"""Bytes of payloads that the windows of segments may have, because each window has a copy."""
_Parts = tuple[list[str], list[Any], Doubles]
"""Ids, payloads and rows (n, width)."""


@dataclass(frozen=True)
class ItemBatch:
    """Validated items: n different ids, rows (n, width) or photos, and n payloads as JSON texts.

    The rows are as the client sent them: float32, or float64 if the encoder has an origin, which is not subtracted yet.
    Photos are not decoded yet; then the rows are (n, 0).
    """

    ids: list[str]
    rows: Input
    payloads: list[str]
    photos: Sequence[Photo] = ()


def decode_items(body: bytes, limits: RequestLimits) -> ItemBatch:
    """JSON {"items": [{"id", "input" or "image", "payload"}, ...]} -> a batch; without an encoder, "embedding".

    Raises MalformedError, RequestError or TooLargeError, which names the item's number and the field.
    """
    if (plain := _read_plain(body, limits)) is not None:
        return _row_batch(*plain, limits)
    items = _read(body, limits)
    ids, payloads = [item.id for item in items], [item.payload for item in items]
    for number, item in enumerate(items):
        _check_fields(item, number, limits)
    if images := [item.image for item in items if item.image is not None]:
        if len(images) < len(items):
            found = "both in one call"
            raise RequestError("items", expected="either an input in each item, or an image in each", found=found)
        return photo_batch(ids, photos_of_json(images, "items[{}].image", limits), payloads)
    values = [getattr(item, limits.item_field) for item in items]
    if not limits.windows:
        return _row_batch(ids, payloads, rows_from_json(values, "inputs", limits, _place(limits)), limits)
    segments = cut_segments(values, limits.windows, limits.max_windows, _place(limits))
    _check_copies(payloads, segments)
    return _row_batch(*window_items(ids, payloads, segments, limits.windows), segments.rows, limits)


def photo_batch(ids: list[str], photos: Sequence[Photo], payloads: list[dict[str, Any]]) -> ItemBatch:
    """Return a batch of photos. Raises RequestError or TooLargeError for a wrong id or payload."""
    _check_ids(ids)
    return ItemBatch(ids, np.empty((len(ids), 0), np.float32), _texts(payloads), photos)


def _row_batch(ids: list[str], payloads: list[dict[str, Any]], values: Doubles, limits: RequestLimits) -> ItemBatch:
    _check_ids(ids)
    texts = _texts(payloads)
    rows = to_float32(values, "inputs", limits, _place(limits))
    return ItemBatch(ids, rows if limits.origin is None else values, texts)


def _check_copies(payloads: list[dict[str, Any]], segments: Segments) -> None:
    """Raises TooLargeError if the windows of longer segments repeat too many bytes of their segments' payloads."""
    sizes = list(map(len, _texts(payloads)))
    copied = sum(sizes[window.input] for window in segments.windows if not window.is_whole)
    if copied > MAX_COPIES:
        expected = f"at most {MAX_COPIES} bytes of payloads in the windows of all segments"
        raise TooLargeError("items", expected=expected, found=str(copied))


def _texts(payloads: list[dict[str, Any]]) -> list[str]:
    return [_payload(payload, f"items[{number}].payload") for number, payload in enumerate(payloads)]


def _read(body: bytes, limits: RequestLimits) -> list[Item]:
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
    return items


def _place(limits: RequestLimits) -> str:
    """The field of the row of item {}."""
    return f"items[{{}}].{limits.item_field}"


def _check_fields(item: Item, number: int, limits: RequestLimits) -> None:
    """Raises RequestError unless an item has an input or an image; or an embedding if there is no encoder."""
    needed, others = ["input", "image"], ["embedding"]
    if not limits.embeds:
        needed, others = others, needed
    present, place = item.model_fields_set, f"items[{number}]"
    if other := next((name for name in others if name in present), None):
        reason = "this version embeds inputs" if limits.embeds else "this version has no encoder"
        expected = f"{limits.item_field} instead, because {reason}"
        raise RequestError(f"{place}.{other}", expected=expected, found="a value")
    if not (found := [name for name in needed if name in present]):
        expected = "a value, or an image" if limits.embeds else "a value"
        raise RequestError(f"{place}.{limits.item_field}", expected=expected, found="nothing")
    if len(found) > 1:
        raise RequestError(place, expected="either an input or an image", found="both")


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
        if len(body) > FIELD_BYTES:
            check_payload_bytes(item, f"items[{number}].payload")
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
