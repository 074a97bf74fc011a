"""The rows of a request as one float32 array: their limits, the fast reader of plain JSON, and the checks.

simdjson reads plain rows straight into an array, without a Python object for each number. Plain rows are one list of
flat lists of numbers. The fast reader returns None for every other body, and for every wrong body; the caller then
reads the body value by value (service.parsing.json_rows), and that reader names what is wrong.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from lookalike.index.versions.version import Version
from lookalike.service.errors import RequestError, TooLargeError, truncate_repr
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.segments import filled_windows
from lookalike.service.settings import Settings
from lookalike.training.array_types import Floats
from lookalike.training.tables.origin import Origin, subtracted
from lookalike.training.transforms import ImageTransform, WindowTransform

__all__ = [
    "FIELD_BYTES",
    "JSON_ERRORS",
    "SPARE_COMMAS",
    "RequestLimits",
    "check_count",
    "check_field_bytes",
    "check_memory",
    "check_shape",
    "parser_for",
    "read_plain",
    "rows_from_array",
    "to_float32",
]

FIELD_BYTES = 1 << 21
"""Limit of a filter, and of every other field that has neither rows nor ids, as JSON without white space."""
SPARE_COMMAS = 1 << 20
"""Commas that a body may have in ids and in a filter."""
SHARED_BYTES = 1 << 20
"""A parser keeps buffers as large as the largest body that it has read; larger bodies get their own parser."""
LARGE_TABLE = 1 << 16
"""Bytes of rows with texts, dates or categories, which are read value by value."""
ROWS_BYTES = 1 << 28
"""Bytes that the rows of one call may have in memory, if a small body can make large rows."""
JSON_ERRORS = (ValueError, TypeError, RuntimeError, KeyError, IndexError, OverflowError)
"""What simdjson raises for a body that is not as expected."""
_KINDS = ("inputs", "embeddings")
_OTHER_FIELDS = ("limit", "with_payload", "encoding_format", "version", "min_sequence", "filter")
_parser = simdjson.Parser()


@dataclass(frozen=True)
class RequestLimits:
    """The limits of a call, and the shape of its rows.

    Attributes:
        table: the columns, if the rows are of a table.
        origin: subtracted from inputs, in float64, before they become float32; None: nothing.
        spaces: the embedding dimension of each version whose embeddings a search accepts.
        photo: the conversion of a photo to a row; None: the encoder was not trained on photos.
        previews: whether the version keeps a preview of each item.
        max_pixels: the pixels of one photo.
        windows: the transform, if the rows are windows of recordings.
        embeds: whether the version has an encoder; if not, its rows are embeddings and inputs are refused.
    """

    input_shape: tuple[int, ...]
    latent_dim: int
    max_rows: int
    max_limit: int
    max_hits: int
    table: TableInputs | None = None
    origin: Origin = None
    spaces: Mapping[int, int] = field(default_factory=dict)
    photo: ImageTransform | None = None
    previews: bool = False
    max_pixels: int = 1
    windows: WindowTransform | None = None
    embeds: bool = True

    @staticmethod
    def of(version: Version, settings: Settings) -> "RequestLimits":
        """The limits of a service with these settings that answers from this version.

        Raises ArtifactError if its maps of older versions' embeddings are damaged.
        """
        encoder, limits = version.encoder, (settings.max_rows, settings.max_limit, settings.max_hits)
        spaces = {older: len(matrix) for older, matrix in version.maps.items()} | {version.number: encoder.latent_dim}
        shapes = (encoder.input_shape, encoder.latent_dim)
        transform, has_previews = encoder.transform, version.previews is not None
        photo = transform if isinstance(transform, ImageTransform) else None
        windows = transform if isinstance(transform, WindowTransform) else None
        inputs = RequestLimits(*shapes, *limits, TableInputs.of(encoder), encoder.origin, spaces)
        inputs = replace(inputs, photo=photo, windows=windows, embeds=encoder.embeds)
        return replace(inputs, previews=has_previews, max_pixels=settings.max_pixels)

    @property
    def item_field(self) -> Literal["input", "embedding"]:
        """The field of an item with its row."""
        return "input" if self.embeds else "embedding"

    @property
    def large_bytes(self) -> int:
        """A larger JSON body takes so long to decode that a thread decodes it; it has its own parser."""
        return SHARED_BYTES if self.table is None or self.table.numeric else LARGE_TABLE

    @property
    def max_windows(self) -> int:
        """The most windows that the segments of a call are cut into; each value has 8 bytes."""
        return min(self.max_rows, max(1, ROWS_BYTES // (8 * self.width("inputs"))))

    def check_embeds(self, field: str, remedy: str, found: str = "inputs") -> None:
        """Raises RequestError if there is no encoder for the inputs in a field of the request."""
        if not self.embeds:
            expected = "embeddings, because this version has no encoder"
            raise RequestError(field, expected=expected, found=found, remedy=remedy)

    def for_version(self, number: int | None, kind: str) -> "RequestLimits":
        """The same limits for embeddings of a version; None: of the serving version.

        Raises RequestError if the query has no embeddings, or no embeddings of this version are accepted, or the query
        has inputs and there is no encoder.
        """
        if kind == "inputs":
            self.check_embeds("inputs", "Send the vectors as `embeddings`, or the ids of items as `ids`.")
        if number is None:
            return self
        if kind != "embeddings":
            raise RequestError("version", expected="a search by embeddings", found=f"a search by {kind}")
        if number not in self.spaces:
            expected = f"a version whose embeddings are known: {', '.join(map(str, sorted(self.spaces)))}"
            raise RequestError("version", expected=expected, found=truncate_repr(number))
        return replace(self, latent_dim=self.spaces[number])

    def shape(self, kind: str) -> tuple[int, ...]:
        """The shape of one row."""
        return (self.latent_dim,) if kind == "embeddings" else self.input_shape

    def width(self, kind: str) -> int:
        return math.prod(self.shape(kind))


def read_plain(body: bytes, limits: RequestLimits) -> dict[str, Any] | None:
    """The fields of a search or embed request with plain rows, which become one (n, width) float64 array.

    None if the body has anything else, or more than `limits.max_rows` rows. Not for two threads at once.

    Raises:
        TooLargeError: the filter has more than FIELD_BYTES, or the body has many more values than its rows may have.
    """
    if limits.table and not limits.table.numeric:
        return None
    _check_commas(body, limits)
    try:
        return _read(parser_for(body), body, limits.max_rows)
    except JSON_ERRORS:
        return None


def rows_from_array(array: NDArray[Any], kind: str, limits: RequestLimits) -> Floats:
    """(n, width) or (n, *input_shape) numbers -> (n, width) float32, in C order; inputs less the encoder's origin.

    Raises RequestError or TooLargeError if the shape is wrong, there are too many rows, or a value is not finite.
    """
    check_shape(array.shape, kind, limits)
    rows = array.reshape(len(array), -1)
    if limits.windows and kind == "inputs":
        rows = filled_windows(rows, limits.windows, kind + "[{}]")
    if limits.table and kind == "inputs":
        rows = limits.table.minus_bases(rows)
    return to_float32(rows, kind, limits, kind + "[{}]")


def to_float32(values: NDArray[Any], kind: str, limits: RequestLimits, at: str) -> Floats:
    """(n, width) numbers -> float32, in C order; inputs less the origin. In inputs of a table, NaN is a missing value.

    `at` is the field of row {}, for errors. Raises RequestError if a value is not finite as float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rows = subtracted(values, limits.origin if kind == "inputs" else None)
        squares = np.dot(flat := rows.reshape(-1), flat)
    if np.isfinite(squares):  # true for usual numbers, and takes a third of the time of the exact check
        return rows
    wrong = np.isinf(rows) if limits.table and kind == "inputs" else ~np.isfinite(rows)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        expected, found = "finite numbers that fit float32", f"NaN, infinity or too large a number at value {column}"
        raise RequestError(at.format(row), expected=expected, found=found)
    return rows


def check_shape(shape: tuple[int, ...], kind: str, limits: RequestLimits) -> None:
    """Raises RequestError, TooLargeError unless it is the shape of rows of this kind."""
    row = shape[1:]
    if len(shape) < 2 or not shape[0] or (row != (limits.width(kind),) and row != limits.shape(kind)):
        flat, nested = (limits.width(kind),), limits.shape(kind)
        shapes = [f"(n, {', '.join(map(str, each))})" for each in dict.fromkeys((flat, nested))]
        raise RequestError(kind, expected=f"shape {' or '.join(shapes)}", found=f"shape {shape}")
    check_count(shape[0], kind, limits)


def check_count(count: int, name: str, limits: RequestLimits) -> None:
    """Raises TooLargeError if a call has too many rows, ids or items."""
    if count > limits.max_rows:
        raise TooLargeError(name, expected=f"at most {limits.max_rows} in a call", found=str(count))


def check_memory(count: int, name: str, limits: RequestLimits) -> None:
    """Raises TooLargeError if so many inputs take too much memory."""
    most = max(1, ROWS_BYTES // (4 * limits.width("inputs")))
    if count > most:
        raise TooLargeError(name, expected=f"at most {most} in a call, because of their size", found=str(count))


def check_field_bytes(name: str, size: int) -> None:
    """Raises TooLargeError if a field other than rows and ids is too large."""
    if size > FIELD_BYTES:
        raise TooLargeError(name, expected=f"at most {FIELD_BYTES} bytes", found=str(size))


def parser_for(body: bytes) -> simdjson.Parser:
    return _parser if len(body) <= SHARED_BYTES else simdjson.Parser()


def _check_commas(body: bytes, limits: RequestLimits) -> None:
    """Check a large body before it is parsed, which takes many times its memory; the process answers no other call."""
    if len(body) <= FIELD_BYTES:
        return
    values = limits.max_rows * max(limits.width("inputs"), limits.latent_dim, *limits.spaces.values())
    if body.count(b",") > values + SPARE_COMMAS:
        raise TooLargeError("body", expected=f"at most {values} values in all its rows", found="many more")


def _read(parser: simdjson.Parser, body: bytes, most: int) -> dict[str, Any] | None:
    document = parser.parse(body)
    if not isinstance(document, simdjson.Object):
        return None
    names = list(document)
    kinds = [name for name in names if name in _KINDS]
    fields: dict[str, Any] = {name: document[name] for name in names if name in _OTHER_FIELDS}
    filter_lists = 0
    if isinstance(filter_ := fields.get("filter"), simdjson.Object):
        text: Any = filter_.mini  # bytes; the type says str
        check_field_bytes("filter", len(text))
        fields["filter"], filter_lists = orjson.loads(text), text.count(b"[")
    if any(isinstance(value, simdjson.Object | simdjson.Array) for value in fields.values()):
        return None  # they are views of the parser's buffer, which the next body overwrites
    if len(kinds) != 1 or len(names) != 1 + len(fields):  # also if a name occurs twice
        return None
    values = document[kinds[0]]
    if not isinstance(values, simdjson.Array) or len(values) > most:
        return None
    rows, count = list(values), len(values)
    if body.count(b"[") != 1 + count + filter_lists:  # one list for all rows and one for each row, none inside a row
        return None
    widths = {len(row) if isinstance(row, simdjson.Array) else -1 for row in rows}
    if len(widths) != 1:
        return None
    numbers = np.frombuffer(values.as_buffer(of_type="d"))  # (count * width,)
    fields[kinds[0]] = numbers.reshape(count, widths.pop())
    return fields
