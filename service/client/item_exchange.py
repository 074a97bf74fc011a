"""The exchanges about items. All of them may be retried: putting or deleting an item twice has the effect of once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from lookalike.service.client.exchange import ClientOptions, with_row_offset
from lookalike.service.client.images import Images, base64_images, check_images, image_parts
from lookalike.service.client.item_responses import (
    Item,
    Page,
    WriteResponse,
    read_item,
    read_page,
    read_preview,
    read_put,
    read_write,
)
from lookalike.service.client.messages import Call, Exchange
from lookalike.service.client.requests import (
    Rows,
    check_ids,
    check_rows,
    filter_param,
    put_call,
    sequence_param,
)

__all__ = ["ItemRows", "Items", "delete", "delete_where", "get", "page", "preview", "put"]

_MAX_VALUES = 2_000_000
"""The most numbers in one call, about 25 MB of JSON."""
_MAX_WARNINGS = 20
"""The most warnings that the service returns for one call."""


@dataclass(frozen=True)
class ItemRows:
    """The rows of items: inputs, photos, or embeddings if the version has no encoder."""

    kind: Literal["inputs", "images", "embeddings"]
    values: Any

    @staticmethod
    def of(inputs: Rows | None, images: Images | None, embeddings: Rows | None) -> "ItemRows":
        """Check the rows. Raises ValueError unless exactly one of the three is given."""
        given = {"inputs": inputs, "images": images, "embeddings": embeddings}
        kinds = [kind for kind, values in given.items() if values is not None]
        if len(kinds) != 1:
            raise ValueError("expected exactly one of inputs, images and embeddings")
        if images is not None:
            check_images(images)
            return ItemRows("images", images)
        if embeddings is not None:
            check_rows(embeddings, "embeddings")
            return ItemRows("embeddings", embeddings)
        check_rows(rows := inputs or [] if not isinstance(inputs, np.ndarray) else inputs, "inputs")
        return ItemRows("inputs", rows)


@dataclass(frozen=True)
class Items:
    """Checked items to put."""

    ids: Sequence[str]
    rows: ItemRows
    payloads: Sequence[dict[str, Any]] | None

    @staticmethod
    def of(ids: Sequence[str], rows: ItemRows, payloads: Sequence[dict[str, Any]] | None) -> "Items":
        """Check the arguments of a put. Raises ValueError if they do not fit together."""
        for name, values in ((rows.kind, rows.values), ("payloads", payloads)):
            if values is not None and (isinstance(ids, str) or len(values) != len(ids)):
                raise ValueError(f"{name}: expected one for each of {len(ids)} ids, found {len(values)}")
        check_ids(ids)
        if len(set(ids)) < len(ids):
            raise ValueError("ids: expected unique ids, found an id twice")
        return Items(ids, rows, payloads)

    def parts(self, most: int) -> list[slice]:
        """Split the items into the parts of several calls, at least one."""
        values, step = self.rows.values, most
        if self.rows.kind == "images":
            return image_parts(values, most)
        if isinstance(values, np.ndarray):
            step = max(1, min(step, _MAX_VALUES // max(1, values[:1].size)))
        return [slice(start, start + step) for start in range(0, max(1, len(self.ids)), step)]

    def call(self, part: slice) -> Call:
        """Build the call for a part. Raises ValueError or TypeError if a value cannot be sent."""
        payloads, values = None if self.payloads is None else self.payloads[part], self.rows.values[part]
        if self.rows.kind == "images":
            values = base64_images(values, part.start)
        return put_call(self.ids[part], values, payloads, self.rows.kind)


def put(items: Items, options: ClientOptions) -> Exchange[WriteResponse]:
    """Put items. Many items are sent in several calls, one after the other; those before a failed one remain in effect.

    Raises ValueError if the items cannot be sent.
    """
    parts = {part.start: part for part in items.parts(options.max_rows)}

    def put_part(start: int) -> Exchange[WriteResponse]:
        return read_put((yield from options.request(items.call(parts[start]))))

    total = WriteResponse(0, 0, 0)
    for start in parts:
        done = yield from with_row_offset(start, put_part)
        count, clipped = total.count + done.count, total.clipped + done.clipped
        total = replace(done, count=count, clipped=clipped, warnings=(total.warnings + done.warnings)[:_MAX_WARNINGS])
    return total


def preview(name: str, options: ClientOptions) -> Exchange[bytes]:
    """Get the preview of one item. Raises ValueError if the id cannot be sent."""
    check_ids([name])
    return read_preview((yield from options.request(Call("GET", "items", item=name, suffix="/preview"))))


def get(name: str, min_sequence: int, options: ClientOptions) -> Exchange[Item]:
    """Get one item, at `min_sequence` or a later change. Raises ValueError if the id cannot be sent."""
    check_ids([name])
    call = Call("GET", "items", item=name, params=sequence_param(min_sequence))
    return read_item((yield from options.request(call)), name)


def page(
    filter_: dict[str, Any] | None, limit: int, after: str, min_sequence: int, options: ClientOptions
) -> Exchange[Page]:
    """Get the items after the id `after` ("" for the first page), at `min_sequence` or a later change."""
    params = {"limit": str(limit), **filter_param(filter_), **sequence_param(min_sequence)}
    params |= {"after": after} if after else {}
    return read_page((yield from options.request(Call("GET", "items", params=params))), limit)


def delete(name: str, options: ClientOptions) -> Exchange[WriteResponse]:
    """Delete one item. Raises ValueError if the id cannot be sent."""
    check_ids([name])
    return read_write((yield from options.request(Call("DELETE", "items", item=name))))


def delete_where(filter_: dict[str, Any], options: ClientOptions) -> Exchange[WriteResponse]:
    """Delete all items that match a filter."""
    return read_write((yield from options.request(Call("DELETE", "items", params=filter_param(filter_)))))
