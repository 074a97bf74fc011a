"""The routes. To add one: a function here, its shapes in service.api.schemas, its errors in service.errors."""

import asyncio
from functools import partial

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from lookalike.index.limits import DEFAULT_LIMIT
from lookalike.index.versions.alignment import mapped
from lookalike.index.versions.searching import SearchResult
from lookalike.service.api.auth import GuardedRoute, WriteRoute
from lookalike.service.api.openapi import KEY, calls, problems
from lookalike.service.api.request_context import is_npy, read_body_of, record_answer, serving_of, wants_npy
from lookalike.service.api.responses import FEW_HITS, embeddings_response, hits_response
from lookalike.service.api.schemas import (
    NPY_QUERY,
    EmbedRequest,
    EmbedResponse,
    ReadyResponse,
    ReloadResponse,
    SearchRequest,
    SearchResponse,
)
from lookalike.service.errors import DeadlineError, NotReadyError, RequestError
from lookalike.service.observability.metrics import Metrics
from lookalike.service.parsing.bodies import Body
from lookalike.service.parsing.connection import is_disconnected
from lookalike.service.parsing.decoding import (
    Asked,
    EmbedAsked,
    RequestLimits,
    check_hits,
    decode_embed,
    decode_search,
    pick_limit,
    pick_space,
    query_kind,
)
from lookalike.service.parsing.npy_bodies import decode_npy
from lookalike.service.parsing.query_strings import pick_filter, pick_flag, pick_sequence, pick_whole
from lookalike.service.serving.batching import Left
from lookalike.service.serving.engine import Engine

__all__ = ["admin", "guarded", "health"]

health = APIRouter(tags=["health"])
guarded = APIRouter(route_class=GuardedRoute, dependencies=KEY)
admin = APIRouter(route_class=WriteRoute, dependencies=KEY, responses=problems(401, 403, 415), tags=["admin"])


@guarded.post("/embed", **calls(EmbedRequest, EmbedResponse), tags=["embed"])
async def embed(request: Request) -> Response:
    """Embed rows. Takes and gives JSON or application/x-npy (Accept)."""
    body = await read_body_of(request)
    current = serving_of(request).current
    asked = _embed_asked(request, body, current.limits)
    embeddings = await current.engine.embed(asked.rows, is_disconnected(request))
    record_answer(request, current, len(asked.rows))
    form = "npy" if wants_npy(request) else asked.form
    return embeddings_response(current.collection, embeddings, form)


@guarded.post("/search", **calls(SearchRequest, SearchResponse, 404, 503, query=NPY_QUERY), tags=["search"])
async def search(request: Request) -> Response:
    """Find the nearest items of inputs, embeddings or ids, best first.

    An .npy body holds inputs, or embeddings with `?kind=embeddings`; `?limit=` and `?filter=` (JSON) go with it. With
    `version` embeddings are of an older version, which was kept from before a retraining; they are mapped first.
    """
    body, serving = await read_body_of(request), serving_of(request)
    current = serving.current
    asked = check_hits(_asked(request, body, current.limits), current.limits)
    await serving.include(current, asked.min_sequence)
    found = await _found(current.engine, asked, is_disconnected(request))
    record_answer(request, current, len(found.positions))
    write = partial(
        hits_response,
        current.collection,
        found,
        with_payload=asked.with_payload,
        as_npy=wants_npy(request),
        most=request.app.state.settings.max_answer_bytes,
    )
    return write() if found.positions.size <= FEW_HITS else await asyncio.to_thread(write)  # the first part, or all


@guarded.get("/version", tags=["version"], responses=problems(401))
async def version(request: Request) -> Response:
    """The serving version's manifest, with the evidence that it is good."""
    return JSONResponse(serving_of(request).current.version.sealed.header)


@guarded.get("/metrics", tags=["health"], response_class=Response, responses=problems(401))
async def metrics(request: Request) -> Response:
    """Prometheus."""
    return Response(_metrics(request).render(), media_type=CONTENT_TYPE_LATEST)


@guarded.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """What the calls take and give."""
    return JSONResponse(request.app.openapi())


@health.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@health.get("/readyz", response_model=ReadyResponse, responses=problems(503))
async def readyz(request: Request) -> ReadyResponse:
    """A stored canary query gets its known answer through encoder and index, on the way that every call takes.

    `refused` is a champion that could not take the place of the version that serves; the log says why.
    """
    serving = serving_of(request)
    serving.check_alive()
    current, refused = serving.current, serving.refused
    try:
        right = await current.engine.answers_canary()
    except DeadlineError as error:
        raise NotReadyError("version", expected="the known answer to its canary query", found="none") from error
    if not right:
        raise NotReadyError("version", expected="the known answer to its canary query", found="another")
    return ReadyResponse(ready=True, version=current.version.number, refused=refused.version if refused else None)


@admin.post("/admin/reload", response_model=ReloadResponse, responses=problems(409))
async def reload(request: Request) -> Response:
    """Serve the store's champion now, if another version serves; the answer names the version that serves then.

    The store is watched anyway. A champion that was refused is tried again.
    """
    current = await serving_of(request).follow()
    return JSONResponse({"version": current.version.number})


def _asked(request: Request, body: Body, limits: RequestLimits) -> Asked:
    query = request.query_params
    if not is_npy(request):
        if given := sorted(set(query) & NPY_QUERY.keys()):
            raise RequestError(given[0], expected="it in the JSON body", found="it in the query")
        return decode_search(bytes(body), limits)
    kind = query.get("kind", "inputs")
    if kind not in {"inputs", "embeddings"}:
        raise RequestError("kind", expected="inputs or embeddings", found=kind[:40] or "nothing")
    limit = pick_whole(query.get("limit", str(DEFAULT_LIMIT)), "limit", f"an integer from 1 to {limits.max_limit}")
    number = pick_whole(query["version"], "version", "a version's number") if "version" in query else None
    limits = pick_space(number, kind, limits)
    rows = decode_npy(body, kind, limits)
    flag = pick_flag(query.get("with_payload", "true"), "with_payload")
    passing, least = pick_filter(query.get("filter")), pick_sequence(query.get("min_sequence"))
    return Asked(query_kind(kind), rows, [], pick_limit(limit, limits), flag, passing, number, least)


def _embed_asked(request: Request, body: Body, limits: RequestLimits) -> EmbedAsked:
    return EmbedAsked(decode_npy(body, "inputs", limits)) if is_npy(request) else decode_embed(bytes(body), limits)


async def _found(engine: Engine, asked: Asked, left: Left) -> SearchResult:
    if asked.kind == "ids":
        return await engine.search_ids(asked.ids, asked.limit, asked.filter, left)
    encoded, rows = asked.kind == "embeddings", asked.rows
    if asked.version not in (None, engine.version.number):
        with np.errstate(over="ignore", invalid="ignore"):  # the search says so of what is too large
            rows = mapped(rows, engine.version.maps[asked.version], engine.version.metric)
    return await engine.search(rows, asked.limit, encoded=encoded, given=asked.filter, left=left)


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics
