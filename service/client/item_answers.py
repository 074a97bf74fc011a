"""Answers about items. Everything is checked before any of it is returned."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.client.answers import malformed, read_version, show
from service.client.messages import Answer

__all__ = ["Item", "Listed", "Page", "Written", "read_item", "read_page", "read_written"]


@dataclass(frozen=True)
class Written:
    """Changes that are durable.

    Attributes:
        version: the version that serves.
        sequence: the number of the last change of the item log.
        count: items that were put, or that were there and are deleted.
    """

    version: int
    sequence: int
    count: int


@dataclass(frozen=True, eq=False)
class Item:
    """One item, with its embedding, (latent_dim,) float32, by the version that serves."""

    version: int
    id: str
    payload: dict[str, Any]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Listed:
    """One item of a list."""

    id: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """Items in the order of their ids, and after which id the next page begins; None where this is the last."""

    items: tuple[Listed, ...]
    next: str | None


def read_written(answer: Answer) -> Written:
    """Raises MalformedAnswer: it names the field."""
    fields = read_version(answer)
    for name in ("sequence", "count"):
        if type(fields.get(name)) is not int or fields[name] < 0:
            raise malformed(answer, name, "a whole number", show(fields.get(name)))
    return Written(fields["version"], fields["sequence"], fields["count"])


def read_item(answer: Answer, name: str) -> Item:
    """The item of that id. Raises MalformedAnswer: it names the field."""
    fields = read_version(answer)
    if fields.get("id") != name:
        raise malformed(answer, "id", "the one that was asked for", show(fields.get("id")))
    values = fields.get("embedding")
    if not isinstance(values, list) or not values or not {type(value) for value in values} <= {int, float}:
        raise malformed(answer, "embedding", "a list of numbers", show(values))
    return Item(fields["version"], name, _payload(answer, "payload", fields), np.array(values, np.float32))


def read_page(answer: Answer, most: int) -> Page:
    """At most so many items. Raises MalformedAnswer: it names the field."""
    fields = read_version(answer)
    items, after = fields.get("items"), fields.get("next")
    if not isinstance(items, list) or len(items) > most:
        raise malformed(answer, "items", f"a list of at most {most}", show(items))
    if not isinstance(after, str | None) or (after is not None and not items):
        raise malformed(answer, "next", "an id, or null at the end", show(after))
    return Page(tuple(_listed(answer, f"items[{number}]", item) for number, item in enumerate(items)), after)


def _listed(answer: Answer, place: str, item: Any) -> Listed:
    fields = item if isinstance(item, dict) else {}
    if not isinstance(fields.get("id"), str):
        raise malformed(answer, f"{place}.id", "text", show(fields.get("id")))
    return Listed(fields["id"], _payload(answer, f"{place}.payload", fields))


def _payload(answer: Answer, place: str, fields: dict[str, Any]) -> dict[str, Any]:
    payload = fields.get("payload")
    if not isinstance(payload, dict):
        raise malformed(answer, place, "an object", show(payload))
    return payload
