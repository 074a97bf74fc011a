"""The routes of embed, search, health and administration; service.api.item_routes has those of items.

To add a route: a function here, its request model in service.parsing.request_models, its response model in
service.api.response_models, its errors in service.errors.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from lookalike.index.versions.searching import SearchResult
from lookalike.service.api.deadline import in_time
from lookalike.service.api.guard import GuardedRoute, WriteRoute
from lookalike.service.api.openapi import KEY, describe_call, describe_item_call, problems
from lookalike.service.api.response_models import (
    EmbedResponse,
    ExplainResponse,
    ReadyResponse,
    ReloadResponse,
    SearchResponse,
)
from lookalike.service.api.responses import FEW_HITS, embeddings_response, explained_response, hits_response
from lookalike.service.errors import DeadlineError, NotReadyError, RequestError
from lookalike.service.observability.logs import record_answer
from lookalike.service.observability.metrics import Metrics
from lookalike.service.parsing.bodies import (
    JSON,
    NPY,
    ROW_MEDIA,
    Body,
    decode_body,
    is_disconnected,
    media_type,
    receive_body,
    wants_npy,
)
from lookalike.service.parsing.decoding import EmbedQuery, SearchQuery, decode_embed, decode_search
from lookalike.service.parsing.explain_bodies import ExplainQuery, decode_explain
from lookalike.service.parsing.npy_bodies import decode_npy, decode_npy_search
from lookalike.service.parsing.photo_bodies import PhotoBody, decode_photo_embed, decode_photo_search
from lookalike.service.parsing.photos import Photo
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import EmbedParams, EmbedRequest, ExplainRequest, NpyParams, SearchRequest
from lookalike.service.parsing.rows import RequestLimits, rows_from_array
from lookalike.service.serving.explaining import explain_pair
from lookalike.service.serving.serving import Current, Serving
from lookalike.training.array_types import Floats

__all__ = ["admin", "guarded", "health"]

health = APIRouter(tags=["health"])
guarded = APIRouter(route_class=GuardedRoute, dependencies=KEY)
admin = APIRouter(route_class=WriteRoute, dependencies=KEY, responses=problems(401, 403, 415), tags=["admin"])


@guarded.post("/embed", **describe_call(EmbedRequest, EmbedResponse, params=EmbedParams), tags=["embed"])
async def embed(request: Request) -> Response:
    """Embed rows or photos. Accepts JSON, application/x-npy, a photo, or a form with photos as its files.

    Returns JSON or application/x-npy (Accept).
    """
    serving: Serving = request.app.state.serving
    body = await receive_body(request)
    current = serving.current
    limits = current.limits
    limits.check_embeds("inputs", "The rows are embeddings already: send them to POST /search as `embeddings`.")
    if (media := media_type(request)) == NPY:
        form = read_params(EmbedParams, request.query_params).encoding_format
        query = EmbedQuery(decode_npy(body, "inputs", limits), form)
    elif media == JSON:
        query = await decode_body(decode_embed, body, limits)
    else:
        query = await asyncio.to_thread(decode_photo_embed, PhotoBody.of(request, body), limits)
    work = _embed(request, current, query)
    embeddings = await (in_time(request, work, cancels=True) if query.photos else work)
    record_answer(request.scope, len(embeddings), current.version.number)
    columns = limits.table.used(query.rows) if limits.table else None
    answered = "npy" if wants_npy(request) else query.form
    return embeddings_response(current.collection, embeddings, answered, query.windows, columns)


@guarded.post("/search", **describe_call(SearchRequest, SearchResponse, 404, 503, params=NpyParams), tags=["search"])
async def search(request: Request) -> Response:
    """Find the nearest items of inputs, embeddings, ids or photos, best first.

    An .npy body holds inputs, or embeddings with `?kind=embeddings`. A photo is a JPEG, PNG or WebP file: the whole
    body, a file of a form, or base64 in JSON. Except with JSON, the other fields go into the query string. With
    `version` the embeddings are of an older version, which was kept from before a retraining; they are mapped first.
    """
    serving: Serving = request.app.state.serving
    body = await receive_body(request)
    current = serving.current
    if (media := media_type(request)) in ROW_MEDIA:
        query = await _search_query(request, media, body, current.limits)
    else:
        query = await asyncio.to_thread(decode_photo_search, PhotoBody.of(request, body), current.limits)
    table = current.limits.table if query.kind == "inputs" else None
    columns = table.used_by_queries(query.rows, "inputs[{}]") if table else None
    work = _search(request, current, query)
    result = await (in_time(request, work, cancels=True) if query.photos else work)
    record_answer(request.scope, len(result.positions), current.version.number)
    collection, as_npy, most = current.collection, wants_npy(request), request.app.state.settings.max_answer_bytes
    options = {"with_payload": query.with_payload, "as_npy": as_npy, "most": most, "columns": columns}
    write = partial(hits_response, collection, result, query.windows, **options)
    return write() if result.positions.size <= FEW_HITS else await asyncio.to_thread(write)


@guarded.post(
    "/explain",
    **describe_item_call(
        ExplainResponse, 400, 404, 408, 413, 415, 422, 429, 503, 504, request=ExplainRequest, tag="search"
    ),
)
async def explain(request: Request) -> Response:
    """Which parts make two items alike, or a query and an item, and which separate them.

    The query is an input, or a photo if the version's encoder was trained on photos. Each part is replaced by the
    other's, and by those of unrelated items; the weights are measured by how far the embedding moves.
    """
    serving: Serving = request.app.state.serving
    body = await receive_body(request, (JSON,))
    current = serving.current
    current.version.check_embeds()
    query = await decode_body(decode_explain, body, current.limits)
    await serving.wait_for_sequence(current, query.min_sequence)
    sequence = current.collection.applied
    explained = await in_time(request, _explain(request, current, query), cancels=True)
    record_answer(request.scope, 1, current.version.number)
    return explained_response(current.collection, explained, sequence)


@guarded.get("/version", tags=["version"], responses=problems(401))
async def version(request: Request) -> Response:
    """The serving version's manifest, with the evidence that it is good."""
    return JSONResponse(request.app.state.serving.current.version.sealed.header)


@guarded.get("/metrics", tags=["health"], response_class=Response, responses=problems(401))
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus's format."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


@guarded.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The description of the calls."""
    return JSONResponse(request.app.openapi())


@health.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@health.get("/readyz", response_model=ReadyResponse, responses=problems(503))
async def readyz(request: Request) -> ReadyResponse:
    """The canary query gets its known answer through encoder and index, the same way as every call.

    `refused` is a champion that could not replace the serving version; the log has the reason.
    """
    serving: Serving = request.app.state.serving
    serving.check_alive()
    current, refused = serving.current, serving.refused
    try:
        right = await current.engine.answers_canary()
    except DeadlineError as error:
        raise NotReadyError("version", expected="the known answer to its canary query", found="no answer") from error
    if not right:
        raise NotReadyError("version", expected="the known answer to its canary query", found="another answer")
    return ReadyResponse(ready=True, version=current.version.number, refused=refused)


@admin.post("/admin/reload", response_model=ReloadResponse, responses=problems(409))
async def reload(request: Request) -> Response:
    """Serve the store's champion now, if another version serves; the answer names the version that serves then.

    The service also watches the store by itself. A champion that was refused is tried again.
    """
    current = await request.app.state.serving.follow()
    return JSONResponse({"version": current.version.number})


async def _search_query(request: Request, media: str, body: Body, limits: RequestLimits) -> SearchQuery:
    if media == NPY:
        return decode_npy_search(body, request.query_params, limits)
    if misplaced := sorted(set(request.query_params) & NpyParams.model_fields.keys()):
        raise RequestError(misplaced[0], expected="the field in the JSON body", found="it in the query string")
    return await decode_body(decode_search, body, limits)


async def _embed(request: Request, current: Current, query: EmbedQuery) -> Floats:
    rows = await _photo_rows(request, query.photos, current.limits) if query.photos else query.rows
    return await current.engine.embed(rows, is_disconnected(request))


async def _search(request: Request, current: Current, query: SearchQuery) -> SearchResult:
    serving: Serving = request.app.state.serving
    if query.photos:
        query = replace(query, rows=await _photo_rows(request, query.photos, current.limits))
    await serving.wait_for_sequence(current, query.min_sequence)
    return await current.engine.search(query, is_disconnected(request))


async def _explain(request: Request, current: Current, query: ExplainQuery) -> dict[str, Any]:
    if query.photos:
        query = replace(query, rows=await _photo_rows(request, query.photos, current.limits))
    return await explain_pair(request.app.state.serving, current, query, is_disconnected(request))


async def _photo_rows(request: Request, photos: Sequence[Photo], limits: RequestLimits) -> Floats:
    """(n, width): the decoded photos, as the encoder reads them."""
    serving: Serving = request.app.state.serving
    decoded = await serving.photos.read(photos, limits, is_disconnected(request))
    return rows_from_array(decoded.rows, "inputs", limits)
