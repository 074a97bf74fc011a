"""Parse the responses about items. Each response is checked completely before any part of it is returned."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.service.client.messages import Response
from lookalike.service.client.responses import malformed, read_version, sequence_of, truncate_repr

__all__ = [
    "ClippedValue",
    "Item",
    "ItemSummary",
    "Page",
    "WriteResponse",
    "read_item",
    "read_page",
    "read_preview",
    "read_put",
    "read_write",
]


@dataclass(frozen=True)
class ClippedValue:
    """A value of a written item that the encoder clips: the value is far outside the range of the training rows.

    Attributes:
        column: the column's name if the rows are a table, else its number from 0.
        low, high: the known range of the column; the encoder clips values to it.
    """

    id: str
    column: str | int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class WriteResponse:
    """Changes that are durable.

    Attributes:
        version: the serving version.
        sequence: the number of the last of these changes in the change log.
        count: the number of items written, or of existing items deleted.
        clipped: the number of values in the written items that the encoder clips.
        warnings: the first clipped values.
    """

    version: int
    sequence: int
    count: int
    clipped: int = 0
    warnings: tuple[ClippedValue, ...] = ()


@dataclass(frozen=True, eq=False)
class Item:
    """One item, with its embedding (latent_dim,) float32; `sequence` is the last change that the response includes."""

    version: int
    sequence: int
    id: str
    payload: dict[str, Any]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ItemSummary:
    """One item of a list of items."""

    id: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One page of items, ordered by id.

    Attributes:
        sequence: the last change of the change log that the page includes.
        next: the id after which the next page begins; None on the last page.
    """

    sequence: int
    items: tuple[ItemSummary, ...]
    next: str | None


def read_write(response: Response) -> WriteResponse:
    """Read the response to a delete. Raises MalformedResponse, whose `field` names the wrong part."""
    fields = read_version(response)
    return WriteResponse(fields["version"], sequence_of(response, fields), _count(response, "count", fields))


def read_put(response: Response) -> WriteResponse:
    """Read the response to a put. Raises MalformedResponse, whose `field` names the wrong part."""
    written, fields = read_write(response), read_version(response)
    warnings = fields.get("warnings")
    if not isinstance(warnings, list):
        raise malformed(response, "warnings", "a list", truncate_repr(warnings))
    clipped = tuple(_clipped_value(response, f"warnings[{number}]", value) for number, value in enumerate(warnings))
    return replace(written, clipped=_count(response, "clipped", fields), warnings=clipped)


def read_item(response: Response, name: str) -> Item:
    """Read the item with the id `name`. Raises MalformedResponse, whose `field` names the wrong part."""
    fields = read_version(response)
    if fields.get("id") != name:
        raise malformed(response, "id", "the requested id", truncate_repr(fields.get("id")))
    values = fields.get("embedding")
    if not isinstance(values, list) or not values or not {type(value) for value in values} <= {int, float}:
        raise malformed(response, "embedding", "a list of numbers", truncate_repr(values))
    payload = _payload(response, "payload", fields)
    return Item(fields["version"], sequence_of(response, fields), name, payload, np.array(values, np.float32))


def read_preview(response: Response) -> bytes:
    """Read a preview. Raises MalformedResponse if it is no WebP file."""
    if response.media_type != "image/webp" or response.body[8:12] != b"WEBP":
        raise malformed(response, "body", "a WebP file", f"{len(response.body)} bytes of {response.media_type[:40]}")
    return response.body


def read_page(response: Response, limit: int) -> Page:
    """Read a page of at most `limit` items. Raises MalformedResponse, whose `field` names the wrong part."""
    fields = read_version(response)
    items, after = fields.get("items"), fields.get("next")
    if not isinstance(items, list) or len(items) > limit:
        raise malformed(response, "items", f"a list of at most {limit}", truncate_repr(items))
    if not isinstance(after, str | None) or (after is not None and not items):
        raise malformed(response, "next", "an id, or null at the end", truncate_repr(after))
    summaries = tuple(_item_summary(response, f"items[{number}]", item) for number, item in enumerate(items))
    return Page(sequence_of(response, fields), summaries, after)


def _count(response: Response, path: str, fields: dict[str, Any]) -> int:
    count = fields.get(path)
    if type(count) is not int or count < 0:
        raise malformed(response, path, "a whole number", truncate_repr(count))
    return count


def _clipped_value(response: Response, path: str, warning: Any) -> ClippedValue:
    fields = warning if isinstance(warning, dict) else {}
    texts = isinstance(fields.get("id"), str) and type(fields.get("column")) in {str, int}
    numbers: list[Any] = [fields.get(name) for name in ("value", "low", "high")]
    if not texts or not {type(number) for number in numbers} <= {int, float}:
        raise malformed(response, path, "an id, a column and three numbers", truncate_repr(warning))
    return ClippedValue(fields["id"], fields["column"], *map(float, numbers))


def _item_summary(response: Response, path: str, item: Any) -> ItemSummary:
    fields = item if isinstance(item, dict) else {}
    if not isinstance(fields.get("id"), str):
        raise malformed(response, f"{path}.id", "text", truncate_repr(fields.get("id")))
    return ItemSummary(fields["id"], _payload(response, f"{path}.payload", fields))


def _payload(response: Response, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    payload = fields.get("payload")
    if not isinstance(payload, dict):
        raise malformed(response, path, "an object", truncate_repr(payload))
    return payload
