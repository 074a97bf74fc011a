"""Answers about items. Everything is checked before any of it is returned."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.service.client.answers import malformed, read_version, sequence_of, truncate_repr
from lookalike.service.client.messages import Answer

__all__ = [
    "ClippedValue",
    "Item",
    "ItemSummary",
    "Page",
    "WriteResponse",
    "read_item",
    "read_page",
    "read_put",
    "read_written",
]


@dataclass(frozen=True)
class ClippedValue:
    """A value of an item that was put that the encoder clips: it is far outside the range of the training rows.

    Attributes:
        id: the item's.
        column: of a table its name, else its number from 0.
        low, high: the least and the greatest value that the encoder knows; a value beyond counts as that.
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
        version: the version that serves.
        sequence: the number of the last of these changes in the change log.
        count: items that were put, or that were there and are deleted.
        clipped: how many values of items that were put the encoder clips.
        warnings: the first of these values.
    """

    version: int
    sequence: int
    count: int
    clipped: int = 0
    warnings: tuple[ClippedValue, ...] = ()


@dataclass(frozen=True, eq=False)
class Item:
    """One item, with its embedding, (latent_dim,) float32, by the version that serves.

    Attributes:
        sequence: the last change of the change log that the answer includes.
    """

    version: int
    sequence: int
    id: str
    payload: dict[str, Any]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ItemSummary:
    """One item of a list."""

    id: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """Items in the order of their ids, and after which id the next page begins; None if this is the last.

    Attributes:
        sequence: the last change of the change log that the page includes.
    """

    sequence: int
    items: tuple[ItemSummary, ...]
    next: str | None


def read_written(answer: Answer) -> WriteResponse:
    """Raises MalformedAnswer: it names the field."""
    fields = read_version(answer)
    return WriteResponse(fields["version"], sequence_of(answer, fields), _count(answer, "count", fields))


def read_put(answer: Answer) -> WriteResponse:
    """Raises MalformedAnswer: it names the field."""
    written, fields = read_written(answer), read_version(answer)
    warnings = fields.get("warnings")
    if not isinstance(warnings, list):
        raise malformed(answer, "warnings", "a list", truncate_repr(warnings))
    told = tuple(_clipped_value(answer, f"warnings[{number}]", one) for number, one in enumerate(warnings))
    return replace(written, clipped=_count(answer, "clipped", fields), warnings=told)


def read_item(answer: Answer, name: str) -> Item:
    """The item of that id. Raises MalformedAnswer: it names the field."""
    fields = read_version(answer)
    if fields.get("id") != name:
        raise malformed(answer, "id", "the one that was asked for", truncate_repr(fields.get("id")))
    values = fields.get("embedding")
    if not isinstance(values, list) or not values or not {type(value) for value in values} <= {int, float}:
        raise malformed(answer, "embedding", "a list of numbers", truncate_repr(values))
    payload = _payload(answer, "payload", fields)
    return Item(fields["version"], sequence_of(answer, fields), name, payload, np.array(values, np.float32))


def read_page(answer: Answer, most: int) -> Page:
    """At most so many items. Raises MalformedAnswer: it names the field."""
    fields = read_version(answer)
    items, after = fields.get("items"), fields.get("next")
    if not isinstance(items, list) or len(items) > most:
        raise malformed(answer, "items", f"a list of at most {most}", truncate_repr(items))
    if not isinstance(after, str | None) or (after is not None and not items):
        raise malformed(answer, "next", "an id, or null at the end", truncate_repr(after))
    listed = tuple(_listed(answer, f"items[{number}]", item) for number, item in enumerate(items))
    return Page(sequence_of(answer, fields), listed, after)


def _count(answer: Answer, place: str, fields: dict[str, Any]) -> int:
    count = fields.get(place)
    if type(count) is not int or count < 0:
        raise malformed(answer, place, "a whole number", truncate_repr(count))
    return count


def _clipped_value(answer: Answer, place: str, given: Any) -> ClippedValue:
    fields = given if isinstance(given, dict) else {}
    texts = isinstance(fields.get("id"), str) and type(fields.get("column")) in {str, int}
    numbers: list[Any] = [fields.get(name) for name in ("value", "low", "high")]
    if not texts or not {type(number) for number in numbers} <= {int, float}:
        raise malformed(answer, place, "an id, a column and three numbers", truncate_repr(given))
    return ClippedValue(fields["id"], fields["column"], *map(float, numbers))


def _listed(answer: Answer, place: str, item: Any) -> ItemSummary:
    fields = item if isinstance(item, dict) else {}
    if not isinstance(fields.get("id"), str):
        raise malformed(answer, f"{place}.id", "text", truncate_repr(fields.get("id")))
    return ItemSummary(fields["id"], _payload(answer, f"{place}.payload", fields))


def _payload(answer: Answer, place: str, fields: dict[str, Any]) -> dict[str, Any]:
    payload = fields.get("payload")
    if not isinstance(payload, dict):
        raise malformed(answer, place, "an object", truncate_repr(payload))
    return payload
