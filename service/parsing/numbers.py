"""A request's numbers, parsed by simdjson straight into an array: no Python object is made for any of them.

It reads only what is plain: one list of flat rows of numbers, and beside it a filter and what is no list; or items, of
which each has one flat row and no other list. Of everything else, and of everything wrong, it says None, and
service.parsing.decoding and service.parsing.item_bodies read it value by value and say why.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from lookalike.service.errors import TooLargeError

__all__ = [
    "FILTER_BYTES",
    "SPARE_COMMAS",
    "Numbers",
    "PlainItems",
    "check_commas",
    "check_sizes",
    "read_items",
    "read_numbers",
]

_KINDS = ("inputs", "embeddings")
_LISTS = (*_KINDS, "ids", "items")
_BESIDE = ("limit", "with_payload", "encoding_format", "version", "min_sequence", "filter")
FILTER_BYTES = 1 << 21
"""Of a filter as JSON without white space; so of whatever else is neither rows nor ids."""
SPARE_COMMAS = 1 << 20
"""Of ids and of a filter."""
_SHARED_BYTES = 1 << 20
"""A parser keeps buffers as large as the largest body that it read; larger bodies get one of their own."""
_WRONG = (ValueError, TypeError, RuntimeError, KeyError, IndexError, OverflowError)
_parser = simdjson.Parser()


@dataclass(frozen=True)
class Numbers:
    """What a body holds: `rows`, (n, width) float64, of one kind, and the other fields as they are."""

    kind: str
    rows: NDArray[np.float64]
    beside: dict[str, Any]


@dataclass(frozen=True)
class PlainItems:
    """What a body holds: `rows`, (n, width) float64, n ids, and n payloads as JSON."""

    ids: list[str]
    rows: NDArray[np.float64]
    payloads: list[str | bytes]


def read_numbers(body: bytes, most: int) -> Numbers | None:
    """JSON {"inputs": [[...], ...], ...} or {"embeddings": ...}; None where it is anything but that.

    Also where it has more than `most` rows, before anything is made of them.

    Not for two threads at once.

    Raises:
        TooLargeError: the filter beside the rows has more than FILTER_BYTES.
    """
    try:
        return _read(_parser_for(body), body, most)
    except _WRONG:
        return None


def read_items(body: bytes, most: int, width: int) -> PlainItems | None:
    """JSON {"items": [{"id": "a", "input": [...], "payload": {...}}, ...]}, rows of that width; None where it is not.

    Also where it has more than `most` items. Not for two threads at once.
    """
    try:
        return _read_items(_parser_for(body), body, most, width)
    except _WRONG:
        return None


def check_sizes(body: bytes, most: int) -> None:
    """Check a large body before Python objects are made of it, which take much longer and many times the memory.

    Raises:
        TooLargeError: a list of more than `most` rows, ids or items, or another field of more than FILTER_BYTES.
    """
    if len(body) <= FILTER_BYTES:
        return
    try:
        document = simdjson.Parser().parse(body)
    except _WRONG:
        return  # the next parser says why
    if not isinstance(document, simdjson.Object):
        return
    for name in document:
        value = document[name]
        if name in _LISTS and isinstance(value, simdjson.Array):
            if len(value) > most:
                raise TooLargeError(name, expected=f"at most {most} in a call", found=str(len(value)))
        elif isinstance(value, simdjson.Object | simdjson.Array):
            _check_bytes(name[:64], len(value.mini))


def check_commas(body: bytes, values: int) -> None:
    """Raises TooLargeError if a large body has many more commas than rows of so many values, before it is parsed.

    The parser itself takes many times the memory of the body, and holds the interpreter meanwhile.
    """
    if len(body) > FILTER_BYTES and body.count(b",") > values + SPARE_COMMAS:
        raise TooLargeError("body", expected=f"at most {values} values in all its rows", found="many more")


def _check_bytes(name: str, size: int) -> None:
    if size > FILTER_BYTES:
        raise TooLargeError(name, expected=f"at most {FILTER_BYTES} bytes", found=str(size))


def _parser_for(body: bytes) -> simdjson.Parser:
    return _parser if len(body) <= _SHARED_BYTES else simdjson.Parser()


def _read_items(parser: simdjson.Parser, body: bytes, most: int, width: int) -> PlainItems | None:
    document = parser.parse(body)
    if not isinstance(document, simdjson.Object) or list(document) != ["items"]:
        return None
    given = document["items"]
    if not isinstance(given, simdjson.Array) or not 0 < len(given) <= most or body.count(b"[") != 1 + len(given):
        return None
    ids, payloads, rows = [], [], np.empty((len(given), width))
    for number, item in enumerate(given):
        if not isinstance(item, simdjson.Object):
            return None
        names = list(item)
        if sorted(names) not in (["id", "input"], ["id", "input", "payload"]):  # a name may be there twice, too
            return None
        name, row, payload = item["id"], item["input"], item["payload"] if "payload" in names else None
        if not isinstance(name, str) or not isinstance(row, simdjson.Array) or len(row) != width:
            return None
        if "payload" in names and not isinstance(payload, simdjson.Object):
            return None
        rows[number] = np.frombuffer(row.as_buffer(of_type="d"))
        ids.append(name)
        payloads.append(payload.mini if isinstance(payload, simdjson.Object) else b"{}")
    return PlainItems(ids, rows, payloads)


def _read(parser: simdjson.Parser, body: bytes, most: int) -> Numbers | None:
    document = parser.parse(body)
    if not isinstance(document, simdjson.Object):
        return None
    names = list(document)
    kinds = [name for name in names if name in _KINDS]
    beside = {name: document[name] for name in names if name in _BESIDE}
    listed = 0
    if isinstance(given := beside.get("filter"), simdjson.Object):
        text: Any = given.mini  # bytes; the type says str
        _check_bytes("filter", len(text))
        beside["filter"], listed = orjson.loads(text), text.count(b"[")
    if any(isinstance(value, simdjson.Object | simdjson.Array) for value in beside.values()):
        return None  # they live in the parser's buffer, which the next body is read into
    if len(kinds) != 1 or len(names) != 1 + len(beside):  # a name may be there twice, too
        return None
    given = document[kinds[0]]
    if not isinstance(given, simdjson.Array) or len(given) > most:
        return None
    rows, count = list(given), len(given)
    if body.count(b"[") != 1 + count + listed:  # a list for all and one for each row, and none within these
        return None
    lengths = {len(row) if isinstance(row, simdjson.Array) else -1 for row in rows}
    if len(lengths) != 1:
        return None
    width = lengths.pop()
    values = np.frombuffer(given.as_buffer(of_type="d"))  # (count * width,)
    return Numbers(kinds[0], values.reshape(count, width), beside)
