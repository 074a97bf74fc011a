"""From rows to requests: arrays as .npy, tables and ids as JSON."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from lookalike.service.client.messages import Call

__all__ = [
    "JSON",
    "NPY",
    "Query",
    "Rows",
    "check_ids",
    "check_rows",
    "embed_call",
    "filter_param",
    "put_call",
    "search_call",
    "sequence_param",
]

JSON = "application/json"
NPY = "application/x-npy"

Rows = NDArray[Any] | Sequence[Any]
"""(n, width) or (n, *input shape) of numbers, or a sequence of rows: lists, or of a table also dicts."""

_HALF = re.compile("[\ud800-\udfff]")
_LONGEST_QUERY = 4_096
"""Bytes of a filter that may stand in a URL, as servers and proxies take at least 8 KiB of it."""


@dataclass(frozen=True)
class Query:
    """A checked search, of any number of rows."""

    kind: Literal["inputs", "embeddings", "ids"]
    rows: Rows
    limit: int
    filter: dict[str, Any] | None
    with_payload: bool
    version: int | None = None
    min_sequence: int = 0

    @staticmethod
    def of(
        *,
        inputs: Rows | None,
        embeddings: NDArray[Any] | None,
        ids: Sequence[str] | None,
        limit: int,
        filter: dict[str, Any] | None,
        with_payload: bool,
        version: int | None = None,
        min_sequence: int = 0,
    ) -> "Query":
        """Raises ValueError unless exactly one of inputs, embeddings and ids is given, and is rows."""
        kinds: dict[Literal["inputs", "embeddings", "ids"], Rows | None] = {
            "inputs": inputs,
            "embeddings": embeddings,
            "ids": ids,
        }
        given = [(kind, rows) for kind, rows in kinds.items() if rows is not None]
        if len(given) != 1:
            raise ValueError("expected exactly one of inputs, embeddings and ids")
        ((kind, rows),) = given
        check_rows(rows, kind)
        if kind == "ids":
            check_ids(rows)
        return Query(kind, rows, limit, filter, with_payload, version, min_sequence)


def check_rows(rows: Rows, field: str) -> Rows:
    """The rows. Raises ValueError where they are text, one row, or an array of something else than numbers."""
    if isinstance(rows, str | bytes | dict):
        raise ValueError(f"{field}: expected a sequence of several, found one {type(rows).__name__}")
    if isinstance(rows, np.ndarray) and field != "ids" and (rows.ndim < 2 or rows.dtype.kind not in "biuf"):
        raise ValueError(
            f"{field}: expected an array (n, ...) of numbers, found shape {rows.shape} of {rows.dtype}; "
            "a table with words goes as a list of dicts"
        )
    return rows


def check_ids(ids: Iterable[Any]) -> None:
    """Raises ValueError if an id cannot be sent: UTF-8 has no half of a surrogate pair."""
    for number, name in enumerate(ids):
        if isinstance(name, str) and (half := _HALF.search(name)):
            found = f"U+{ord(half[0]):04X} at position {half.start()}"
            raise ValueError(f"ids[{number}]: expected text without halves of surrogate pairs, found {found}")


def embed_call(rows: Rows) -> Call:
    """Rows, of one call -> POST /embed, to be answered as .npy.

    Raises:
        TypeError: a row holds what JSON does not.
    """
    if isinstance(rows, np.ndarray):
        return Call("POST", "embed", headers={"Content-Type": NPY, "Accept": NPY}, body=_npy(_narrow(rows)))
    return Call("POST", "embed", headers={"Content-Type": JSON, "Accept": NPY}, body=_json({"inputs": rows}))


def search_call(query: Query, rows: Rows) -> Call:
    """Some rows of a question -> POST /search, to be answered as JSON.

    Raises:
        TypeError: a row or the filter holds what JSON does not.
    """
    passing = b"" if query.filter is None else _json(query.filter)
    if not isinstance(rows, np.ndarray) or query.kind == "ids" or len(passing) > _LONGEST_QUERY:
        fields = {query.kind: rows, "limit": query.limit, "with_payload": query.with_payload}
        beside = {
            "filter": query.filter, "version": query.version, "min_sequence": query.min_sequence or None
        }  # fmt: skip
        body = _json(fields | {name: value for name, value in beside.items() if value is not None})
        return Call("POST", "search", headers={"Content-Type": JSON, "Accept": JSON}, body=body)
    params = {
        "kind": query.kind,
        "limit": str(query.limit),
        "with_payload": "true" if query.with_payload else "false",
        **sequence_param(query.min_sequence),
    }
    if passing:
        params["filter"] = passing.decode()
    if query.version is not None:
        params["version"] = str(query.version)
    body = _npy(_narrow(rows) if query.kind == "inputs" else _float32(rows))
    return Call("POST", "search", params=params, headers={"Content-Type": NPY, "Accept": JSON}, body=body)


def put_call(ids: Sequence[str], inputs: Rows, payloads: Sequence[dict[str, Any]] | None) -> Call:
    """Items, of one call -> PUT /items. It may be sent again: items that are put twice are the same.

    Raises:
        TypeError: an input or a payload holds what JSON does not.
        ValueError: an array with infinity, of which JSON would make a missing value.
    """
    rows = _finite(inputs) if isinstance(inputs, np.ndarray) else inputs
    items: list[dict[str, Any]] = [{"id": name, "input": row} for name, row in zip(ids, rows, strict=True)]
    for item, payload in zip(items, payloads or (), strict=bool(payloads)):
        item["payload"] = payload
    return Call("PUT", "items", headers={"Content-Type": JSON, "Accept": JSON}, body=_json({"items": items}))


def filter_param(passing: dict[str, Any] | None) -> dict[str, str]:
    """A filter as it stands in a URL."""
    return {} if passing is None else {"filter": _json(passing).decode()}


def sequence_param(min_sequence: int) -> dict[str, str]:
    """The parameter of a URL for the change that an answer must include; none for 0."""
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
    """As float32 if that changes no value, else as float64: the encoder may have an origin to subtract first."""
    narrow = _float32(rows)
    if np.can_cast(rows.dtype, np.float32) or np.array_equal(narrow, rows, equal_nan=True):
        return narrow
    return np.ascontiguousarray(rows, np.float64)


def _float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """What does not fit becomes infinite, which the service refuses."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, np.float32)


def _json(value: Any) -> bytes:
    """NaN becomes null: a missing value."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    """Of arrays, what orjson leaves: those of text, and those that are not contiguous."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"JSON has no {type(value).__name__}")
