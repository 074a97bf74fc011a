"""The routes of items: put, get, list and delete."""

import asyncio

import numpy as np
from fastapi import APIRouter, Request, Response

from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.items.filters import read_filter
from lookalike.index.items.ids import MAX_ID
from lookalike.index.limits import check_limit
from lookalike.service.api.deadline import in_time
from lookalike.service.api.guard import GuardedRoute, WriteRoute
from lookalike.service.api.openapi import KEY, PATH_ID, describe_item_call, describe_preview
from lookalike.service.api.response_models import ItemPage, ItemResponse, PutResponse, WriteResponse
from lookalike.service.api.responses import (
    item_response,
    items_response,
    preview_response,
    put_response,
    written_response,
)
from lookalike.service.errors import RequestError
from lookalike.service.observability.logs import record_answer
from lookalike.service.parsing.bodies import (
    JSON,
    PUT_MEDIA,
    decode_body,
    header,
    is_disconnected,
    media_type,
    receive_body,
)
from lookalike.service.parsing.item_bodies import ItemBatch, decode_items
from lookalike.service.parsing.photo_bodies import PhotoBody, decode_photo_items
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import DeleteParams, ItemParams, ListParams, PutParams, PutRequest
from lookalike.service.serving import edits
from lookalike.service.serving.batching import IsDisconnected
from lookalike.service.serving.serving import Current, Serving

__all__ = ["items", "items_written"]

items = APIRouter(route_class=GuardedRoute, dependencies=KEY)
items_written = APIRouter(route_class=WriteRoute, dependencies=KEY)


@items_written.put(
    "/items",
    **describe_item_call(PutResponse, 400, 408, 413, 415, 422, 429, 503, 504, request=PutRequest, params=PutParams),
)
async def put_items(request: Request) -> Response:
    """Create or replace items, all or none.

    JSON has an input or an image in each item. A photo as the body has its id and its payload in the query string. In a
    form, each file is an item. Its id is the name of the file, unless the field `ids` is a JSON list with an id for
    each file; the field `payloads` is a JSON list with a payload for each file.

    The answer comes once they are on disk; the next search finds them. To send a call twice does no harm. The answer
    names values that are far outside the range that the encoder was trained on, which the encoder clips.
    """
    serving: Serving = request.app.state.serving
    body = await receive_body(request, PUT_MEDIA)
    limits = serving.current.limits
    if media_type(request) == JSON:
        batch = await decode_body(decode_items, body, limits)
    else:
        batch = await asyncio.to_thread(decode_photo_items, PhotoBody.of(request, body), limits)
    try:
        done = await in_time(request, _put(serving, batch, is_disconnected(request)), cancels=False)
        record_answer(request.scope, done.count, serving.current.version.number)
        return put_response(done.version, done.sequence, done.count, done.clipped)
    except QueryError as error:  # the encoder names rows, not items
        field = error.field if error.field.startswith("items") else "items"
        raise RequestError(field, expected=error.expected, found=error.found) from error


@items.get("/items", **describe_item_call(ItemPage, 400, 422, 503, params=ListParams))
async def list_items(request: Request) -> Response:
    """Items in the order of their ids, page by page; with a filter, only those that pass it."""
    params = read_params(ListParams, request.query_params)
    current = await _wait_for_sequence(request, params.min_sequence)
    count = params.limit
    if "limit" in params.model_fields_set:
        check_limit(count, current.limits.max_limit)
    count = min(count, current.limits.max_limit)
    filter_ = None if params.filter is None else read_filter(params.filter)
    positions, sequence = list[int](), 0

    def read() -> None:
        nonlocal sequence
        positions[:] = current.collection.items.page(params.after, count + 1, filter_)
        sequence = current.collection.applied

    await current.engine.change(read)
    record_answer(request.scope, min(count, len(positions)), current.version.number)
    return items_response(current.collection, positions[:count], sequence, is_last=len(positions) <= count)


@items.get(
    "/items/{id:path}/preview",
    **describe_preview(400, 404, 422, 503, params=ItemParams, path=PATH_ID),
)
async def get_preview(request: Request) -> Response:
    """A small WebP picture of an item, of at most 96 pixels; 404 if it has none.

    The last slash is written as such. In `/items/a%2Fpreview` it belongs to the id, and the call is for the item
    `a/preview`.
    """
    if not request.scope["raw_path"].endswith(b"/preview"):
        request.path_params["id"] += "/preview"
        return await get_item(request)
    params = read_params(ItemParams, request.query_params)
    current = await _wait_for_sequence(request, params.min_sequence)
    name, serving = request.path_params["id"], request.app.state.serving
    sequence, content = current.collection.applied, await serving.preview(current, name)
    if content is None:
        found = f"{name[:MAX_ID]!r}, without one"
        raise UnknownItemError("id", expected="the id of an item with a preview", found=found)
    record_answer(request.scope, 1, current.version.number)
    return preview_response(current.collection, sequence, content, header(request, b"if-none-match"))


@items.get("/items/{id:path}", **describe_item_call(ItemResponse, 400, 404, 422, 503, params=ItemParams, path=PATH_ID))
async def get_item(request: Request) -> Response:
    """One item, with its embedding."""
    params = read_params(ItemParams, request.query_params)
    current = await _wait_for_sequence(request, params.min_sequence)
    name = request.path_params["id"]
    position = current.collection.items.find(name)
    if position is None:
        raise _unknown(name)
    record_answer(request.scope, 1, current.version.number)
    return item_response(current.collection, position)


@items_written.delete("/items", **describe_item_call(WriteResponse, 400, 415, 422, 503, 504, params=DeleteParams))
async def delete_items(request: Request) -> Response:
    """Delete all items that pass a filter; without a filter nothing is deleted.

    Each item is deleted if it passes at that moment. Many are deleted in several steps: a call that fails may have
    deleted some of them.
    """
    serving: Serving = request.app.state.serving
    filter_ = read_filter(read_params(DeleteParams, request.query_params).filter)
    return _written(request, await in_time(request, edits.delete_matching(serving, filter_), cancels=False))


@items_written.delete("/items/{id:path}", **describe_item_call(WriteResponse, 400, 404, 415, 503, 504, path=PATH_ID))
async def delete_item(request: Request) -> Response:
    """Delete one item. The answer comes once the deletion is on disk; no search finds the item after that."""
    name = request.path_params["id"]
    done = await in_time(request, edits.delete(request.app.state.serving, name), cancels=False)
    if not done.count:
        raise _unknown(name)
    return _written(request, done)


async def _wait_for_sequence(request: Request, min_sequence: int) -> Current:
    """The serving version with all acknowledged changes, and all changes up to `min_sequence`."""
    serving: Serving = request.app.state.serving
    current = serving.current
    await serving.wait_for_sequence(current, min_sequence)
    return current


async def _put(serving: Serving, batch: ItemBatch, is_disconnected: IsDisconnected) -> edits.WriteResult:
    """Put items; photos are decoded first, and get previews if the version keeps previews."""
    rows, previews, limits = batch.rows, list[bytes](), serving.current.limits
    if batch.photos:
        decoded = await serving.photos.read(batch.photos, limits, is_disconnected, previews=limits.previews)
        rows, previews = decoded.rows if limits.origin is None else decoded.rows.astype(np.float64), decoded.previews
    return await edits.put(serving, batch.ids, rows, batch.payloads, is_disconnected, previews=previews)


def _written(request: Request, done: edits.WriteResult) -> Response:
    record_answer(request.scope, done.count, request.app.state.serving.current.version.number)
    return written_response(done.version, done.sequence, done.count)


def _unknown(name: str) -> UnknownItemError:
    return UnknownItemError("id", expected="an item's id", found=repr(name[:MAX_ID]))
