"""From the bytes of a body to checked arrays, without a Python object per number where the body is plain."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from lookalike.index.items.filters import Filter, read_filter
from lookalike.index.limits import DEFAULT_LIMIT, check_limit
from lookalike.index.versions.version import Version
from lookalike.service.errors import MalformedError, RequestError, TooLargeError, truncate_repr
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.numbers import FILTER_BYTES, Numbers, check_commas, check_sizes, read_numbers
from lookalike.service.parsing.query_strings import check_sequence, exact
from lookalike.service.settings import Settings
from lookalike.training.tables.origin import Origin, subtracted

__all__ = [
    "Asked",
    "EmbedAsked",
    "QueryKind",
    "RequestLimits",
    "check_count",
    "check_hits",
    "check_shape",
    "checked",
    "decode_embed",
    "decode_search",
    "pick_limit",
    "pick_space",
    "query_kind",
    "read_object",
]

QueryKind = Literal["inputs", "embeddings", "ids"]
EmbedForm = Literal["float", "base64"]
_NUMBERS = "a list of rows of numbers"
_KINDS = ("inputs", "embeddings", "ids")
_LEVELS = 8
_FOLLOWED = re.compile(rb"\]\s*,")
"""The end of a list that another follows: lists within lists end the parser by themselves."""


@dataclass(frozen=True)
class RequestLimits:
    """What a call may have, and how wide its rows must be.

    Attributes:
        table: says more of a table's rows.
        origin: what is subtracted from inputs, in float64, before they are float32; None: nothing.
        spaces: by the number of each version whose embeddings can be asked with, their dimension.
    """

    input_shape: tuple[int, ...]
    latent_dim: int
    max_rows: int
    max_limit: int
    max_hits: int
    table: TableInputs | None = None
    origin: Origin = None
    spaces: Mapping[int, int] = field(default_factory=dict)

    @staticmethod
    def of(version: Version, settings: Settings) -> "RequestLimits":
        """Of a service with these settings that answers by this version.

        Raises:
            ArtifactError: its maps of older versions' embeddings are damaged.
        """
        encoder = version.encoder
        return RequestLimits(
            encoder.input_shape,
            encoder.latent_dim,
            max_rows=settings.max_rows,
            max_limit=settings.max_limit,
            max_hits=settings.max_hits,
            table=TableInputs.of(encoder),
            origin=encoder.origin,
            spaces={older: len(matrix) for older, matrix in version.maps.items()}
            | {version.number: encoder.latent_dim},
        )

    def width(self, kind: str) -> int:
        return self.latent_dim if kind == "embeddings" else math.prod(self.input_shape)

    def shapes(self, kind: str) -> str:
        if kind == "embeddings" or len(self.input_shape) == 1:
            return f"(n, {self.width(kind)})"
        return f"(n, {self.width(kind)}) or (n, {', '.join(map(str, self.input_shape))})"


@dataclass(frozen=True)
class Asked:
    """A checked search: rows (n, width) float32 for inputs and embeddings, strings for ids.

    Attributes:
        version: whose embeddings they are; None: the serving one's.
        min_sequence: the change of the change log that the answer must include; 0 for none.
    """

    kind: QueryKind
    rows: NDArray[np.float32]
    ids: list[str]
    limit: int
    with_payload: bool
    filter: Filter | None = None
    version: int | None = None
    min_sequence: int = 0


@dataclass(frozen=True)
class EmbedAsked:
    """A checked call: rows (n, width) float32, and what each embedding shall be: a list of numbers, or base64."""

    rows: NDArray[np.float32]
    form: EmbedForm = "float"


def decode_embed(body: bytes, limits: RequestLimits) -> EmbedAsked:
    """JSON {"inputs": rows, "encoding_format": "float" or "base64"} -> a checked call.

    Raises:
        MalformedError, RequestError, TooLargeError: it names the field.
    """
    known = {"inputs", "encoding_format"}
    plain = _plain(body, limits)
    if plain and {plain.kind, *plain.beside} <= known:
        return EmbedAsked(form=_form(plain.beside), rows=checked(plain.rows, plain.kind, limits))
    _check_lists(body, limits)
    fields = read_object(body, known)
    if "inputs" not in fields:
        raise RequestError("inputs", expected=_NUMBERS, found="nothing")
    return EmbedAsked(form=_form(fields), rows=_rows(fields, "inputs", limits, body))


def decode_search(body: bytes, limits: RequestLimits) -> Asked:
    """JSON with one of inputs, embeddings and ids -> a checked search.

    Raises:
        MalformedError, RequestError, TooLargeError: it names the field.
    """
    plain = _plain(body, limits)
    if plain and "encoding_format" not in plain.beside:
        limit, flag = _limit_and_flag(plain.beside, limits)
        if (number := plain.beside.get("version")) is not None:
            limits = pick_space(number, plain.kind, limits)
        rows = checked(plain.rows, plain.kind, limits)
        least, given = check_sequence(plain.beside.get("min_sequence", 0)), plain.beside.get("filter")
        passing = None if given is None else read_filter(given)
        return Asked(query_kind(plain.kind), rows, [], limit, flag, passing, number, least)
    _check_lists(body, limits)
    fields = read_object(body, {*_KINDS, "limit", "filter", "with_payload", "version", "min_sequence"})
    kinds = [name for name in _KINDS if fields.get(name) is not None]
    if len(kinds) != 1:
        raise RequestError(
            "inputs, embeddings, ids", expected="exactly one of them", found=" and ".join(kinds) or "none"
        )
    limit, flag = _limit_and_flag(fields, limits)
    given = fields.get("filter")
    passing = None if given is None else read_filter(exact(body, fields)["filter"])
    number, least = fields.get("version"), check_sequence(fields.get("min_sequence", 0))
    limits = pick_space(number, kinds[0], limits)
    if kinds[0] == "ids":
        return Asked(
            "ids", np.empty((0, 0), np.float32), _ids(fields["ids"], limits), limit, flag, passing, None, least
        )
    kind = query_kind(kinds[0])
    if passing:  # its words are none of the rows'
        fields = {kind: fields[kind]}
        body = orjson.dumps(fields)
    return Asked(kind, _rows(fields, kind, limits, body), [], limit, flag, passing, number, least)


def check_hits(asked: Asked, limits: RequestLimits) -> Asked:
    """Raises TooLargeError where queries times limit is more than one answer may have."""
    hits = max(len(asked.rows), len(asked.ids)) * asked.limit
    if hits > limits.max_hits:
        raise TooLargeError("limit", expected=f"at most {limits.max_hits} hits in one answer", found=str(hits))
    return asked


def pick_limit(limit: Any, limits: RequestLimits) -> int:
    """Raises RequestError unless it is an integer within the bounds."""
    if type(limit) is not int:
        raise RequestError("limit", expected=f"an integer from 1 to {limits.max_limit}", found=truncate_repr(limit))
    check_limit(limit, limits.max_limit)
    return limit


def pick_space(number: Any, kind: str, limits: RequestLimits) -> RequestLimits:
    """The bounds of embeddings of a version. Raises RequestError where it is none whose embeddings are known."""
    if number is None:
        return limits
    if kind != "embeddings":
        raise RequestError("version", expected="embeddings beside it", found=kind)
    if type(number) is not int or number not in limits.spaces:
        known = ", ".join(map(str, sorted(limits.spaces)))
        expected = f"a version whose embeddings are known: {known}"
        raise RequestError("version", expected=expected, found=truncate_repr(number))
    return replace(limits, latent_dim=limits.spaces[number])


def _plain(body: bytes, limits: RequestLimits) -> Numbers | None:
    """The numbers of a body that holds nothing but numbers where its rows are."""
    if limits.table and not limits.table.numeric:
        return None
    if len(body) > FILTER_BYTES:
        check_commas(body, limits.max_rows * max(limits.width("inputs"), limits.latent_dim, *limits.spaces.values()))
    return read_numbers(body, limits.max_rows)


def query_kind(name: str) -> QueryKind:
    return "embeddings" if name == "embeddings" else "inputs"


def _limit_and_flag(fields: dict[str, Any], limits: RequestLimits) -> tuple[int, bool]:
    limit = pick_limit(fields.get("limit", DEFAULT_LIMIT), limits)
    flag = fields.get("with_payload", True)
    if not isinstance(flag, bool):
        raise RequestError("with_payload", expected="true or false", found=truncate_repr(flag))
    return limit, flag


def _form(fields: dict[str, Any]) -> EmbedForm:
    form = fields.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise RequestError("encoding_format", expected="float or base64", found=truncate_repr(form))
    return "base64" if form == "base64" else "float"


def _check_lists(body: bytes, limits: RequestLimits) -> None:
    """Before an object is made of each: how many there may be, with some for a filter; ids may hold any brackets."""
    check_sizes(body, limits.max_rows)
    inner = sum(math.prod(limits.input_shape[:level]) for level in range(len(limits.input_shape)))  # of one row
    most = 1_000 + limits.max_rows * inner
    if body.count(b"[") > most and b'"ids"' not in body and len(_FOLLOWED.findall(body)) > most:
        raise TooLargeError("body", expected=f"at most {limits.max_rows} rows in a call", found="more lists")


def read_object(body: bytes, known: set[str]) -> dict[str, Any]:
    """The fields of a JSON object, all of them known. Raises MalformedError, RequestError."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError("body", expected="JSON in UTF-8", found=str(error)) from error
    if not isinstance(fields, dict):
        raise RequestError("body", expected="a JSON object", found=truncate_repr(fields))
    if unknown := sorted(fields.keys() - known):
        raise RequestError(
            unknown[0][:64] or "a field without a name",
            expected=f"one of {', '.join(sorted(known))}",
            found="an unknown field",
        )
    return fields


def _rows(fields: dict[str, Any], field: str, limits: RequestLimits, body: bytes) -> NDArray[np.float32]:
    values = fields[field]
    if not isinstance(values, list) or not values:
        raise RequestError(field, expected=_NUMBERS, found=truncate_repr(values))
    check_count(len(values), field, limits)
    plain = _only_numbers(body, fields)
    if field == "inputs" and limits.table and not (plain and limits.table.numeric and b"null" not in body):
        return checked(limits.table.decode(values, field), field, limits)
    if not plain and (odd := _odd_one(values)):  # NumPy would make strings of numbers beside one
        raise RequestError(field, expected="numbers", found=odd)
    try:
        array = np.array(values)
    except ValueError as error:
        raise RequestError(
            field, expected=f"{_NUMBERS} of shape {limits.shapes(field)}", found=_odd_one(values) or _lengths(values)
        ) from error
    if array.dtype.kind not in "iuf":
        raise RequestError(field, expected="numbers", found=_odd_one(values) or "others")
    return checked(array, field, limits)


def _only_numbers(body: bytes, fields: dict[str, Any]) -> bool:
    """Are there no strings but the fields' names and values, and no true or false but the flag's?"""
    flags = body.count(b"true") + body.count(b"false")
    quotes = 2 * (len(fields) + ("encoding_format" in fields))
    return body.count(b'"') == quotes and flags == ("with_payload" in fields)


def checked(array: NDArray[Any], field: str, limits: RequestLimits) -> NDArray[np.float32]:
    """(n, width) float32 of one kind, in C order; inputs less the encoder's origin.

    Raises:
        RequestError, TooLargeError: a wrong shape, too many rows, values that are not finite.
    """
    check_shape(array.shape, field, limits)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = subtracted(array.reshape(len(array), -1), limits.origin if field == "inputs" else None)
        squares = np.dot(flat := rows.reshape(-1), flat)
    if np.isfinite(squares):  # of many numbers that are all right this takes a third of the time
        return rows
    right = ~np.isinf(rows) if limits.table and field == "inputs" else np.isfinite(rows)
    if not right.all():
        row, column = (int(i) for i in np.argwhere(~right)[0])
        raise RequestError(
            f"{field}[{row}]",
            expected="finite numbers that fit float32",
            found=f"NaN, infinity or too large a number at value {column}",
        )
    return rows


def check_shape(shape: tuple[int, ...], field: str, limits: RequestLimits) -> None:
    """Raises RequestError, TooLargeError unless it is the shape of rows of that kind."""
    fits = shape[1:] == (limits.width(field),) or (field != "embeddings" and shape[1:] == limits.input_shape)
    if len(shape) < 2 or not shape[0] or not fits:
        raise RequestError(field, expected=f"shape {limits.shapes(field)}", found=f"shape {shape}")
    check_count(shape[0], field, limits)


def _ids(values: Any, limits: RequestLimits) -> list[str]:
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise RequestError("ids", expected="a list of strings, not empty", found=truncate_repr(values))
    check_count(len(values), "ids", limits)
    return values


def check_count(count: int, field: str, limits: RequestLimits) -> None:
    """Raises TooLargeError where there are more than a call may have."""
    if count > limits.max_rows:
        raise TooLargeError(field, expected=f"at most {limits.max_rows} in a call", found=str(count))


def _odd_one(values: list[Any], place: str = "") -> str:
    """The first value that is no number, and where it is; "" where there is none in the uppermost levels."""
    for number, value in enumerate(values):
        at = f"{place}[{number}]"
        if isinstance(value, list):
            if place.count("[") < _LEVELS and (found := _odd_one(value, at)):
                return found
        elif isinstance(value, bool) or not isinstance(value, int | float):
            return f"{truncate_repr(value)} at {at}"
    return ""


def _lengths(values: list[Any]) -> str:
    lengths = [len(row) for row in values if isinstance(row, list)]
    if len(lengths) < len(values):
        return "lists beside numbers"
    return f"rows of {min(lengths)} to {max(lengths)} values, or nested unevenly"
