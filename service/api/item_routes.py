"""The routes of items: put, get, list and delete."""

import asyncio
from collections.abc import Coroutine

from fastapi import APIRouter, Request, Response

from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.items.filters import read_filter
from lookalike.index.items.ids import MAX_ID
from lookalike.index.limits import check_limit
from lookalike.service.api.guard import GuardedRoute, WriteRoute
from lookalike.service.api.openapi import KEY, PATH_ID, describe_item_call
from lookalike.service.api.response_models import ItemPage, ItemResponse, PutResponse, WriteResponse
from lookalike.service.api.responses import item_response, items_response, put_response, written_response
from lookalike.service.errors import DeadlineError, RequestError
from lookalike.service.observability.logs import record_answer
from lookalike.service.parsing.bodies import JSON, is_disconnected, receive_body
from lookalike.service.parsing.item_bodies import decode_items
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import DeleteParams, ItemParams, ListParams, PutRequest
from lookalike.service.serving import edits
from lookalike.service.serving.serving import Current, Serving

__all__ = ["items", "items_written"]

items = APIRouter(route_class=GuardedRoute, dependencies=KEY)
items_written = APIRouter(route_class=WriteRoute, dependencies=KEY)


@items_written.put(
    "/items", **describe_item_call(PutResponse, 400, 408, 413, 415, 422, 429, 503, 504, request=PutRequest)
)
async def put_items(request: Request) -> Response:
    """Create or replace items, all or none.

    The answer comes once they are on disk; the next search finds them. To send a call twice does no harm. The answer
    names values that are far outside the range that the encoder was trained on, which the encoder clips.
    """
    serving: Serving = request.app.state.serving
    body = await receive_body(request, (JSON,))
    batch = decode_items(bytes(body), serving.current.limits)
    try:
        work = edits.put(serving, batch.ids, batch.rows, batch.payloads, is_disconnected(request))
        done = await _in_time(request, work)
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
    return _written(request, await _in_time(request, edits.delete_matching(serving, filter_)))


@items_written.delete("/items/{id:path}", **describe_item_call(WriteResponse, 400, 404, 415, 503, 504, path=PATH_ID))
async def delete_item(request: Request) -> Response:
    """Delete one item. The answer comes once the deletion is on disk; no search finds the item after that."""
    name = request.path_params["id"]
    done = await _in_time(request, edits.delete(request.app.state.serving, name))
    if not done.count:
        raise _unknown(name)
    return _written(request, done)


async def _wait_for_sequence(request: Request, min_sequence: int) -> Current:
    """The serving version with all acknowledged changes, and all changes up to `min_sequence`."""
    serving: Serving = request.app.state.serving
    current = serving.current
    await serving.wait_for_sequence(current, min_sequence)
    return current


async def _in_time(request: Request, work: Coroutine[None, None, edits.WriteResult]) -> edits.WriteResult:
    """Wait for the work no longer than a call may take; the work itself continues to its end."""
    seconds: float = request.app.state.settings.deadline_seconds
    task = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(task)
    except TimeoutError as error:
        task.add_done_callback(lambda ended: ended.exception())
        raise DeadlineError("request", expected=f"an answer in {seconds:g} s", found="no answer") from error


def _written(request: Request, done: edits.WriteResult) -> Response:
    record_answer(request.scope, done.count, request.app.state.serving.current.version.number)
    return written_response(done.version, done.sequence, done.count)


def _unknown(name: str) -> UnknownItemError:
    return UnknownItemError("id", expected="an item's id", found=repr(name[:MAX_ID]))
