"""The routes of items: put, get, list and delete."""

import asyncio
from collections.abc import Coroutine, Mapping

from fastapi import APIRouter, Request, Response

from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.items.ids import MAX_ID
from lookalike.service.api.auth import GuardedRoute, WriteRoute
from lookalike.service.api.openapi import KEY, PATH_ID, item_calls
from lookalike.service.api.request_context import read_body_of, record_answer, serving_of
from lookalike.service.api.responses import item_response, items_response, put_response, written_response
from lookalike.service.api.schemas import (
    DELETE_QUERY,
    LIST_QUERY,
    MIN_SEQUENCE,
    PAGE,
    ItemPage,
    ItemResponse,
    PutRequest,
    PutResponse,
    WriteResponse,
)
from lookalike.service.errors import DeadlineError, RequestError
from lookalike.service.parsing.bodies import JSON
from lookalike.service.parsing.connection import is_disconnected
from lookalike.service.parsing.decoding import pick_limit
from lookalike.service.parsing.item_bodies import decode_items
from lookalike.service.parsing.query_strings import check_known, pick_filter, pick_sequence, pick_whole
from lookalike.service.serving import edits
from lookalike.service.serving.serving import Current, Serving

__all__ = ["items", "items_written"]

items = APIRouter(route_class=GuardedRoute, dependencies=KEY)
items_written = APIRouter(route_class=WriteRoute, dependencies=KEY)


@items_written.put("/items", **item_calls(PutResponse, 400, 408, 413, 415, 422, 429, 503, 504, takes=PutRequest))
async def put_items(request: Request) -> Response:
    """Make or replace items, all or none.

    The answer comes once they are on disk; the next search finds them. A call that is sent twice does no harm. The
    answer names values that are far outside the range that the encoder was trained on, which it clips.
    """
    body = await read_body_of(request, (JSON,))
    serving = serving_of(request)
    asked = decode_items(bytes(body), serving.current.limits)
    try:
        work = edits.put(serving, asked.ids, asked.rows, asked.payloads, is_disconnected(request))
        done = await _in_time(request, work)
        record_answer(request, serving.current, done.count)
        return put_response(done.version, done.sequence, done.count, done.clipped)
    except QueryError as error:  # the encoder knows rows, and not where they stood
        place = error.field if error.field.startswith("items") else "items"
        raise RequestError(place, expected=error.expected, found=error.found) from error


@items.get("/items", **item_calls(ItemPage, 400, 422, 503, parameters=LIST_QUERY))
async def list_items(request: Request) -> Response:
    """Items in the order of their ids, page by page; of those that pass a filter, where there is one."""
    query = check_known(request.query_params, ("filter", "limit", "after", "min_sequence"))
    current = await _including(request, query)
    most = min(PAGE, current.limits.max_limit)
    if "limit" in query:
        expected = f"an integer from 1 to {current.limits.max_limit}"
        most = pick_limit(pick_whole(query["limit"], "limit", expected), current.limits)
    passing, found, sequence = pick_filter(query.get("filter")), list[int](), 0

    def look() -> None:
        nonlocal sequence
        found[:] = current.collection.items.page(query.get("after", ""), most + 1, passing)
        sequence = current.collection.applied

    await current.engine.change(look)
    record_answer(request, current, min(most, len(found)))
    return items_response(current.collection, found[:most], sequence, is_last=len(found) <= most)


@items.get("/items/{id:path}", **item_calls(ItemResponse, 400, 404, 422, 503, parameters=(PATH_ID, MIN_SEQUENCE)))
async def get_item(request: Request) -> Response:
    """One item, with its embedding."""
    name, query = request.path_params["id"], check_known(request.query_params, ("min_sequence",))
    current = await _including(request, query)
    place = current.collection.items.find(name)
    if place is None:
        raise _unknown(name)
    record_answer(request, current, 1)
    return item_response(current.collection, place)


@items_written.delete("/items", **item_calls(WriteResponse, 400, 415, 422, 503, 504, parameters=DELETE_QUERY))
async def delete_items(request: Request) -> Response:
    """Delete all items that pass a filter, without which nothing is deleted.

    Each is deleted if it passes at that moment. Many are deleted in several steps: a call that fails may have deleted
    some of them.
    """
    serving = serving_of(request)
    passing = pick_filter(check_known(request.query_params, ("filter",)).get("filter"))
    if passing is None:
        raise RequestError("filter", expected="a filter that says which items to delete", found="nothing")
    return _written(request, serving, await _in_time(request, edits.delete_passing(serving, passing)))


@items_written.delete("/items/{id:path}", **item_calls(WriteResponse, 400, 404, 415, 503, 504, parameters=(PATH_ID,)))
async def delete_item(request: Request) -> Response:
    """Delete one item. The answer comes once that is on disk; no search finds it any more."""
    name, serving = request.path_params["id"], serving_of(request)
    done = await _in_time(request, edits.delete(serving, name))
    if not done.count:
        raise _unknown(name)
    return _written(request, serving, done)


async def _including(request: Request, query: Mapping[str, str]) -> Current:
    """What serves, with all changes that are acknowledged, and up to `min_sequence` if the query names one."""
    serving = serving_of(request)
    current = serving.current
    await serving.include(current, pick_sequence(query.get("min_sequence")))
    return current


async def _in_time(request: Request, work: Coroutine[None, None, edits.WriteResult]) -> edits.WriteResult:
    """What is begun goes on to its end; only the client waits no longer than a call may take."""
    seconds: float = request.app.state.settings.deadline_seconds
    task = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(task)
    except TimeoutError as error:
        task.add_done_callback(lambda ended: ended.exception())
        raise DeadlineError("request", expected=f"an answer in {seconds:g} s", found="none") from error


def _written(request: Request, serving: Serving, done: edits.WriteResult) -> Response:
    record_answer(request, serving.current, done.count)
    return written_response(done.version, done.sequence, done.count)


def _unknown(name: str) -> UnknownItemError:
    return UnknownItemError("id", expected="an item's id", found=repr(name[:MAX_ID]))
