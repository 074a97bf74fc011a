"""Build requests from rows: arrays as .npy, tables and ids as JSON."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
import orjson
from numpy.typing import NDArray

from lookalike.service.client.images import Images, check_images
from lookalike.service.client.messages import Call

__all__ = [
    "JSON",
    "NPY",
    "Query",
    "Rows",
    "SearchOptions",
    "check_ids",
    "check_rows",
    "embed_call",
    "embed_images_call",
    "explain_call",
    "filter_param",
    "put_call",
    "search_call",
    "sequence_param",
]

JSON = "application/json"
NPY = "application/x-npy"

Rows = NDArray[Any] | Sequence[Any]
"""An array of numbers (n, width) or (n, *input shape), or a sequence of rows: lists, or for a table also dicts."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_URL_FILTER = 4_096
"""The most bytes of a filter in a URL; servers and proxies accept URLs of at least 8 KiB."""


class SearchOptions(TypedDict, total=False):
    """The options of a search; see Client.search."""

    limit: int
    filter: dict[str, Any] | None
    with_payload: bool
    version: int | None
    min_sequence: int
    distinct: bool | None
    exclude: float | str | None


@dataclass(frozen=True)
class Query:
    """A checked search for any number of rows."""

    kind: str
    rows: Rows
    limit: int = 10
    filter: dict[str, Any] | None = None
    with_payload: bool = True
    version: int | None = None
    min_sequence: int = 0
    distinct: bool | None = None
    exclude: float | str | None = None

    @staticmethod
    def of(
        inputs: Rows | None,
        embeddings: Rows | None,
        ids: Sequence[str] | None,
        images: Images | None = None,
        **options: Unpack[SearchOptions],
    ) -> "Query":
        """Check the arguments of a search. Raises ValueError unless exactly one of the four is given, and is valid."""
        kinds = {"inputs": inputs, "embeddings": embeddings, "ids": ids, "images": images}
        given = {kind: rows for kind, rows in kinds.items() if rows is not None}
        if len(given) != 1:
            raise ValueError("expected exactly one of inputs, embeddings, ids and images")
        [(kind, rows)] = given.items()
        if images is not None:
            check_images(images)
        else:
            check_rows(rows, kind)
        if kind == "ids":
            check_ids(rows)
        return Query(kind, rows, **options)


def check_rows(rows: Rows, field: str) -> Rows:
    """Return the rows. Raises ValueError if they are text, a single row, or an array of anything but numbers."""
    if isinstance(rows, str | bytes | dict):
        raise ValueError(f"{field}: expected a sequence of rows, found a single {type(rows).__name__}")
    if isinstance(rows, np.ndarray) and field != "ids" and (rows.ndim < 2 or rows.dtype.kind not in "biuf"):
        found = f"found shape {rows.shape} of {rows.dtype}; send a table with words as a list of dicts"
        raise ValueError(f"{field}: expected an array (n, ...) of numbers, {found}")
    return rows


def check_ids(ids: Iterable[Any]) -> None:
    """Raises ValueError if an id cannot be sent: UTF-8 cannot encode a lone surrogate."""
    for number, name in enumerate(ids):
        if isinstance(name, str) and (surrogate := _SURROGATE.search(name)):
            found = f"U+{ord(surrogate[0]):04X} at position {surrogate.start()}"
            raise ValueError(f"ids[{number}]: expected text without lone surrogates, found {found}")


def embed_call(rows: Rows) -> Call:
    """Build POST /embed for the rows of one call. Raises TypeError if a value is not JSON.

    The response to an array is .npy. The response to other rows is JSON, because it may name windows or columns.
    """
    if isinstance(rows, np.ndarray):
        return Call("POST", "embed", headers={"Content-Type": NPY, "Accept": NPY}, body=_npy(_narrow(rows)))
    body = _json({"inputs": rows, "encoding_format": "base64"})
    return Call("POST", "embed", headers={"Content-Type": JSON, "Accept": JSON}, body=body)


def embed_images_call(images: Sequence[str]) -> Call:
    """Build POST /embed for photos in base64; the response is .npy."""
    return Call("POST", "embed", headers={"Content-Type": JSON, "Accept": NPY}, body=_json({"images": images}))


def search_call(query: Query, rows: Rows) -> Call:
    """Build POST /search for some rows of a query; the response is JSON. Raises TypeError if a value is not JSON."""
    filter_json = b"" if query.filter is None else _json(query.filter)
    if not isinstance(rows, np.ndarray) or query.kind in {"ids", "images"} or len(filter_json) > _MAX_URL_FILTER:
        fields = {query.kind: rows, "limit": query.limit, "with_payload": query.with_payload}
        optional: dict[str, Any] = {
            "filter": query.filter,
            "version": query.version,
            "min_sequence": query.min_sequence or None,
        }
        optional |= {"distinct": query.distinct, "exclude": query.exclude}
        body = _json(fields | {name: value for name, value in optional.items() if value is not None})
        return Call("POST", "search", headers={"Content-Type": JSON, "Accept": JSON}, body=body)
    params = {
        "kind": query.kind,
        "limit": str(query.limit),
        "with_payload": "true" if query.with_payload else "false",
        **sequence_param(query.min_sequence),
    }
    if filter_json:
        params["filter"] = filter_json.decode()
    if query.version is not None:
        params["version"] = str(query.version)
    for name, value in (("distinct", query.distinct), ("exclude", query.exclude)):
        if value is not None:
            params[name] = _json(value).decode()
    body = _npy(_narrow(rows) if query.kind == "inputs" else _float32(rows))
    return Call("POST", "search", params=params, headers={"Content-Type": NPY, "Accept": JSON}, body=body)


def put_call(ids: Sequence[str], inputs: Rows, payloads: Sequence[dict[str, Any]] | None, kind: str = "inputs") -> Call:
    """Build PUT /items for the items of one call; `kind` is inputs, embeddings, or images in base64.

    The call may be retried: putting an item twice changes nothing.

    Raises:
        TypeError: an input or a payload contains a value that JSON cannot represent.
        ValueError: an array contains infinity, which JSON would turn into a missing value.
    """
    rows, field = _finite(inputs) if isinstance(inputs, np.ndarray) else inputs, kind.removesuffix("s")
    items: list[dict[str, Any]] = [{"id": name, field: row} for name, row in zip(ids, rows, strict=True)]
    for item, payload in zip(items, payloads or (), strict=bool(payloads)):
        item["payload"] = payload
    return Call("PUT", "items", headers={"Content-Type": JSON, "Accept": JSON}, body=_json({"items": items}))


def explain_call(fields: dict[str, Any]) -> Call:
    """Build POST /explain. Raises TypeError if a value is not JSON."""
    return Call("POST", "explain", headers={"Content-Type": JSON, "Accept": JSON}, body=_json(fields))


def filter_param(filter: dict[str, Any] | None) -> dict[str, str]:
    """The URL parameter of a filter; empty for None."""
    return {} if filter is None else {"filter": _json(filter).decode()}


def sequence_param(min_sequence: int) -> dict[str, str]:
    """The URL parameter for the change that a response must include; empty for 0."""
    return {"min_sequence": str(min_sequence)} if min_sequence else {}


def _finite(rows: NDArray[Any]) -> NDArray[Any]:
    values = _narrow(rows)
    if np.isinf(values).any():
        row = int(np.argwhere(np.isinf(values))[0][0])
        raise ValueError(f"inputs: expected finite numbers, found infinity in row {row}")
    return values


def _npy(rows: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=False)
    return stream.getvalue()


def _narrow(rows: NDArray[Any]) -> NDArray[Any]:
    """The rows as float32 if that changes no value, else as float64: the encoder may first subtract an origin."""
    narrow = _float32(rows)
    if np.can_cast(rows.dtype, np.float32) or np.array_equal(narrow, rows, equal_nan=True):
        return narrow
    return np.ascontiguousarray(rows, np.float64)


def _float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """The rows as float32. Values that do not fit become infinite, which the service refuses."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, np.float32)


def _json(value: Any) -> bytes:
    """The value as JSON. NaN becomes null, a missing value."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    """Convert the arrays that orjson does not: those of text, and those that are not contiguous."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"JSON has no {type(value).__name__}")
