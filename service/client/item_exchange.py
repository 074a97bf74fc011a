"""The conversations about items. All may be sent again: what is put or deleted twice is as if it were once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lookalike.service.client.exchange import ClientOptions, placed
from lookalike.service.client.item_answers import (
    Item,
    Page,
    WriteResponse,
    read_item,
    read_page,
    read_put,
    read_written,
)
from lookalike.service.client.messages import Call, Exchange
from lookalike.service.client.requests import Rows, check_ids, check_rows, filter_param, put_call, sequence_param

__all__ = ["delete", "delete_where", "get", "page", "put"]

_MAX_VALUES = 2_000_000
"""Numbers in one call at most, some 25 MB of JSON."""
_MAX_WARNINGS = 20
"""As many as the service gives for one call."""


def put(
    ids: Sequence[str], inputs: Rows, payloads: Sequence[dict[str, Any]] | None, options: ClientOptions
) -> Exchange[WriteResponse]:
    """Put items, many in several calls, one after the other.

    Raises:
        ValueError: not as many ids as inputs or payloads, an id that cannot be sent or is there twice, or no rows.
        LookalikeError: see service.client.errors; calls before the one that failed stand.
    """
    check_rows(inputs, "inputs")
    each = {"inputs": inputs, **({} if payloads is None else {"payloads": payloads})}
    for name, given in each.items():
        if isinstance(ids, str) or len(given) != len(ids):
            raise ValueError(f"{name}: expected one for each of {len(ids)} ids, found {len(given)}")
    check_ids(ids)
    if len(set(ids)) < len(ids):
        raise ValueError("ids: expected ids that differ, found one twice")
    step = options.max_rows
    if isinstance(inputs, np.ndarray):
        step = max(1, min(step, _MAX_VALUES // max(1, inputs[:1].size)))

    def one(start: int) -> Exchange[WriteResponse]:
        some = slice(start, start + step)
        notes = None if payloads is None else payloads[some]
        return read_put((yield from options.ask(put_call(ids[some], inputs[some], notes))))

    total = WriteResponse(0, 0, 0)
    for start in range(0, max(1, len(ids)), step):
        done = yield from placed(start, one)
        count, clipped = total.count + done.count, total.clipped + done.clipped
        total = replace(done, count=count, clipped=clipped, warnings=(total.warnings + done.warnings)[:_MAX_WARNINGS])
    return total


def get(name: str, min_sequence: int, options: ClientOptions) -> Exchange[Item]:
    """One item, as of that change or a later one. Raises ValueError if the id cannot be sent."""
    check_ids([name])
    call = Call("GET", "items", item=name, params=sequence_param(min_sequence))
    return read_item((yield from options.ask(call)), name)


def page(
    passing: dict[str, Any] | None, most: int, after: str, min_sequence: int, options: ClientOptions
) -> Exchange[Page]:
    """The items after an id, as of that change or a later one; "" for the first page."""
    params = {"limit": str(most), **filter_param(passing), **sequence_param(min_sequence)}
    params |= {"after": after} if after else {}
    return read_page((yield from options.ask(Call("GET", "items", params=params))), most)


def delete(name: str, options: ClientOptions) -> Exchange[WriteResponse]:
    """Delete one item. Raises ValueError if the id cannot be sent."""
    check_ids([name])
    return read_written((yield from options.ask(Call("DELETE", "items", item=name))))


def delete_where(passing: dict[str, Any], options: ClientOptions) -> Exchange[WriteResponse]:
    """Delete all items that pass a filter."""
    return read_written((yield from options.ask(Call("DELETE", "items", params=filter_param(passing)))))
