"""The exchanges about items. All of them may be retried: putting or deleting an item twice has the effect of once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from lookalike.service.client.exchange import ClientOptions, with_row_offset
from lookalike.service.client.item_responses import (
    Item,
    Page,
    WriteResponse,
    read_item,
    read_page,
    read_put,
    read_write,
)
from lookalike.service.client.messages import Call, Exchange
from lookalike.service.client.requests import Rows, check_ids, check_rows, filter_param, put_call, sequence_param

__all__ = ["ItemRows", "delete", "delete_where", "get", "page", "put"]

_MAX_VALUES = 2_000_000
"""The most numbers in one call, about 25 MB of JSON."""
_MAX_WARNINGS = 20
"""The most warnings that the service returns for one call."""


@dataclass(frozen=True)
class ItemRows:
    """The rows of items: inputs, or embeddings if the version has no encoder."""

    kind: Literal["inputs", "embeddings"]
    values: Rows

    @staticmethod
    def of(inputs: Rows | None, embeddings: Rows | None) -> "ItemRows":
        """Raises ValueError unless exactly one of both is given."""
        if inputs is not None and embeddings is None:
            return ItemRows("inputs", inputs)
        if embeddings is not None and inputs is None:
            return ItemRows("embeddings", embeddings)
        raise ValueError("expected exactly one of inputs and embeddings")


def put(
    ids: Sequence[str], rows: ItemRows, payloads: Sequence[dict[str, Any]] | None, options: ClientOptions
) -> Exchange[WriteResponse]:
    """Put items. Many items are sent in several calls, one after the other; those before a failed one remain in effect.

    Raises ValueError if ids, rows and payloads do not fit together, or cannot be sent.
    """
    inputs = rows.values
    check_rows(inputs, rows.kind)
    for name, values in ((rows.kind, inputs), ("payloads", payloads)):
        if values is not None and (isinstance(ids, str) or len(values) != len(ids)):
            raise ValueError(f"{name}: expected one for each of {len(ids)} ids, found {len(values)}")
    check_ids(ids)
    if len(set(ids)) < len(ids):
        raise ValueError("ids: expected unique ids, found an id twice")
    step = options.max_rows
    if isinstance(inputs, np.ndarray):
        step = max(1, min(step, _MAX_VALUES // max(1, inputs[:1].size)))

    def put_part(start: int) -> Exchange[WriteResponse]:
        part = slice(start, start + step)
        part_payloads = None if payloads is None else payloads[part]
        return read_put((yield from options.request(put_call(ids[part], inputs[part], part_payloads, rows.kind))))

    total = WriteResponse(0, 0, 0)
    for start in range(0, max(1, len(ids)), step):
        done = yield from with_row_offset(start, put_part)
        count, clipped = total.count + done.count, total.clipped + done.clipped
        total = replace(done, count=count, clipped=clipped, warnings=(total.warnings + done.warnings)[:_MAX_WARNINGS])
    return total


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
