"""From the bytes of a body to checked arrays, without a Python object per number staying behind."""

import io
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.lib import format as npy
from numpy.typing import NDArray

from index.vectors import check_limit
from service.errors import MalformedError, RequestError, TooLargeError

__all__ = ["Asked", "Bounds", "decode_embed", "decode_npy", "decode_search", "pick_flag", "pick_limit"]

QueryKind = Literal["inputs", "embeddings", "ids"]
_NUMBERS = "a list of rows of numbers"


@dataclass(frozen=True)
class Bounds:
    """What a call may have, and how wide its rows must be."""

    input_shape: tuple[int, ...]
    latent_dim: int
    max_rows: int
    max_limit: int

    def width(self, kind: str) -> int:
        return self.latent_dim if kind == "embeddings" else math.prod(self.input_shape)

    def shapes(self, kind: str) -> str:
        if kind == "embeddings" or len(self.input_shape) == 1:
            return f"(n, {self.width(kind)})"
        return f"(n, {self.width(kind)}) or (n, {', '.join(map(str, self.input_shape))})"


@dataclass(frozen=True)
class Asked:
    """A checked search: rows (n, width) float32 for inputs and embeddings, strings for ids."""

    kind: QueryKind
    rows: NDArray[np.float32]
    ids: list[str]
    limit: int
    with_payload: bool


def decode_embed(body: bytes, bounds: Bounds) -> NDArray[np.float32]:
    """JSON {"inputs": rows} -> (n, width) float32.

    Raises:
        MalformedError, RequestError, TooLargeError: it names the field.
    """
    fields = _object(body, {"inputs"})
    if "inputs" not in fields:
        raise RequestError("inputs", expected=_NUMBERS, found="nothing")
    return _rows(fields["inputs"], "inputs", bounds, body)


def decode_search(body: bytes, bounds: Bounds) -> Asked:
    """JSON with one of inputs, embeddings and ids -> a checked search.

    Raises:
        MalformedError, RequestError, TooLargeError: it names the field.
    """
    fields = _object(body, {"inputs", "embeddings", "ids", "limit", "with_payload"})
    kinds = [name for name in ("inputs", "embeddings", "ids") if fields.get(name) is not None]
    if len(kinds) != 1:
        raise RequestError(
            "inputs, embeddings, ids", expected="exactly one of them", found=" and ".join(kinds) or "none"
        )
    limit = pick_limit(fields.get("limit", 10), bounds)
    flag = fields.get("with_payload", True)
    if not isinstance(flag, bool):
        raise RequestError("with_payload", expected="true or false", found=_show(flag))
    if kinds[0] == "ids":
        return Asked("ids", np.empty((0, 0), np.float32), _ids(fields["ids"], bounds), limit, flag)
    kind: QueryKind = "inputs" if kinds[0] == "inputs" else "embeddings"
    return Asked(kind, _rows(fields[kind], kind, bounds, body), [], limit, flag)


def decode_npy(body: bytes, kind: str, bounds: Bounds) -> NDArray[np.float32]:
    """An .npy file of shape (n, width) or (n, *input shape) -> (n, width) float32.

    Raises:
        MalformedError: not an .npy file, or its header claims another size than it has.
        RequestError, TooLargeError: a wrong shape, values that are not finite, too many rows.
    """
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise MalformedError("body", expected="an .npy file", found=str(error).splitlines()[0]) from error
    values = body[stream.tell() :]
    if dtype.kind not in "biuf" or any(n < 0 for n in shape):
        raise RequestError("body", expected="an array of numbers", found=f"dtype {dtype}, shape {shape}")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != len(values):
        raise MalformedError(
            "body", expected=f"{count * dtype.itemsize} bytes of values, as its header says", found=str(len(values))
        )
    array = np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")
    return _checked(array, kind, bounds)


def pick_limit(limit: Any, bounds: Bounds) -> int:
    """Raises RequestError unless it is an integer within the bounds."""
    if type(limit) is not int:
        raise RequestError("limit", expected=f"an integer from 1 to {bounds.max_limit}", found=_show(limit))
    check_limit(limit, bounds.max_limit)
    return limit


def pick_flag(text: str, name: str) -> bool:
    """true or false in a query string."""
    if text not in {"true", "false"}:
        raise RequestError(name, expected="true or false", found=_show(text))
    return text == "true"


def _object(body: bytes, known: set[str]) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError("body", expected="JSON in UTF-8", found=str(error)) from error
    if not isinstance(fields, dict):
        raise RequestError("body", expected="a JSON object", found=_show(fields))
    if unknown := sorted(fields.keys() - known):
        raise RequestError(unknown[0][:64], expected=f"one of {', '.join(sorted(known))}", found="an unknown field")
    return fields


def _rows(values: Any, field: str, bounds: Bounds, body: bytes) -> NDArray[np.float32]:
    if not isinstance(values, list) or not values:
        raise RequestError(field, expected=_NUMBERS, found=_show(values))
    _check_count(len(values), field, bounds)
    try:
        array = np.array(values)
    except ValueError as error:
        raise RequestError(
            field, expected=f"{_NUMBERS} of shape {bounds.shapes(field)}", found=_odd_one(values)
        ) from error
    if array.dtype.kind not in "iuf" or ((b"true" in body or b"false" in body) and _has_bool(values)):
        raise RequestError(field, expected="numbers", found=_odd_one(values))
    return _checked(array, field, bounds)


def _checked(array: NDArray[Any], field: str, bounds: Bounds) -> NDArray[np.float32]:
    width = bounds.width(field)
    fits = array.shape[1:] == (width,) or (field != "embeddings" and array.shape[1:] == bounds.input_shape)
    if array.ndim < 2 or not len(array) or not fits:
        raise RequestError(field, expected=f"shape {bounds.shapes(field)}", found=f"shape {array.shape}")
    _check_count(len(array), field, bounds)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(array.reshape(len(array), width), dtype=np.float32)
    if not np.isfinite(rows).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise RequestError(
            f"{field}[{row}]",
            expected="finite numbers that fit float32",
            found=f"NaN, infinity or too large a number at value {column}",
        )
    return rows


def _ids(values: Any, bounds: Bounds) -> list[str]:
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise RequestError("ids", expected="a list of strings, not empty", found=_show(values))
    _check_count(len(values), "ids", bounds)
    return values


def _check_count(count: int, field: str, bounds: Bounds) -> None:
    if count > bounds.max_rows:
        raise TooLargeError(field, expected=f"at most {bounds.max_rows} in a call", found=str(count))


def _has_bool(values: Any) -> bool:
    return isinstance(values, bool) or (isinstance(values, list) and any(_has_bool(v) for v in values))


def _odd_one(values: list[Any]) -> str:
    """What makes these no rows: the first value that is no number, or else their lengths."""
    for number, row in enumerate(values):
        if not isinstance(row, list):
            return f"{_show(row)} at row {number}"
        for column, value in enumerate(row):
            if isinstance(value, bool) or not isinstance(value, int | float | list):
                return f"{_show(value)} at row {number}, value {column}"
    return f"rows of {min(map(len, values))} to {max(map(len, values))} values, or nested unevenly"


def _show(value: Any) -> str:
    text = orjson.dumps(value).decode() if value is not None else "null"
    return text if len(text) <= 40 else f"{text[:40]}…"
