"""The routes. To add one: a function here, its shapes in service.schemas, its errors in service.errors."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from index.errors import QueryError
from index.vectors import DEFAULT_LIMIT
from index.version import KNOWN_LIMIT, Found
from service.auth import GuardedRoute
from service.bodies import read_body
from service.decoding import (
    Asked,
    Bounds,
    QueryKind,
    check_hits,
    decode_embed,
    decode_npy,
    decode_search,
    pick_filter,
    pick_flag,
    pick_limit,
)
from service.describing import KEY, calls, problems
from service.encoding import JSON, NPY, embeddings_response, hits_response
from service.engine import Engine
from service.errors import MediaError, NotReadyError, RequestError
from service.logs import noted
from service.metrics import Metrics
from service.schemas import NPY_QUERY, EmbedRequest, EmbedResponse, Ready, SearchRequest, SearchResponse
from service.settings import Settings

__all__ = ["guarded", "health"]

health = APIRouter(tags=["health"])
guarded = APIRouter(route_class=GuardedRoute, dependencies=KEY)


@guarded.post("/embed", **calls(EmbedRequest, EmbedResponse), tags=["embed"])
async def embed(request: Request) -> Response:
    """Embed rows. Takes and gives JSON or application/x-npy (Accept)."""
    engine, bounds = _engine(request), _bounds(request)
    body = await _read(request)
    rows = decode_npy(body, "inputs", bounds) if _is_npy(request) else decode_embed(body, bounds)
    embeddings = await engine.embed(rows)
    _tell(request, len(rows))
    return embeddings_response(engine.version, embeddings, as_npy=_wants_npy(request))


@guarded.post("/search", **calls(SearchRequest, SearchResponse, 404, query=NPY_QUERY), tags=["search"])
async def search(request: Request) -> Response:
    """Find the nearest items of inputs, embeddings or ids, best first.

    An .npy body holds inputs, or embeddings with `?kind=embeddings`; `?limit=` and `?filter=` (JSON) go with it.
    """
    engine = _engine(request)
    asked = check_hits(_asked(request, await _read(request), _bounds(request)), _bounds(request))
    as_npy = _wants_npy(request)
    found = await _found(engine, asked)
    _tell(request, len(found.positions))
    if asked.kind != "ids":  # an item is normal data by itself
        _metrics(request).novelty(found.novelty)
    return hits_response(engine.version, found, with_payload=asked.with_payload, as_npy=as_npy)


@guarded.get("/version", tags=["version"], responses=problems(401))
async def version(request: Request) -> Response:
    """The serving version's manifest, with the evidence that it is good."""
    return JSONResponse(_engine(request).version.manifest)


@guarded.get("/metrics", tags=["health"], response_class=Response, responses=problems(401))
async def metrics(request: Request) -> Response:
    """Prometheus."""
    return Response(_metrics(request).render(), media_type=CONTENT_TYPE_LATEST)


@health.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@health.get("/readyz", response_model=Ready, responses=problems(503))
async def readyz(request: Request) -> Ready:
    """A stored known question gets its known answer through encoder and index."""
    engine = _engine(request)
    if not await _knows_answer(engine):
        raise NotReadyError("version", expected="the known answer to its known question", found="another")
    return Ready(ready=True, version=engine.version.number)


async def _knows_answer(engine: Engine) -> bool:
    try:
        found = await engine.search(engine.version.question, KNOWN_LIMIT, encoded=False)
    except QueryError:  # the embedding is no longer a number
        return False
    return engine.version.is_known_answer(found.scores[0], found.positions[0])


def _asked(request: Request, body: bytes, bounds: Bounds) -> Asked:
    if not _is_npy(request):
        return decode_search(body, bounds)
    query = request.query_params
    kind = query.get("kind", "inputs")
    if kind not in {"inputs", "embeddings"}:
        raise RequestError("kind", expected="inputs or embeddings", found=kind[:40] or "nothing")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.removeprefix("-").isdigit() and len(limit) < 20):
        raise RequestError("limit", expected=f"an integer from 1 to {bounds.max_limit}", found=limit[:40] or "nothing")
    rows = decode_npy(body, kind, bounds)
    flag = pick_flag(query.get("with_payload", "true"), "with_payload")
    passing = pick_filter(query.get("filter"))
    asked_kind: QueryKind = "embeddings" if kind == "embeddings" else "inputs"
    return Asked(asked_kind, rows, [], pick_limit(int(limit), bounds), flag, passing)


async def _found(engine: Engine, asked: Asked) -> Found:
    if asked.kind == "ids":
        return await engine.search_ids(asked.ids, asked.limit, asked.filter)
    return await engine.search(asked.rows, asked.limit, encoded=asked.kind == "embeddings", given=asked.filter)


async def _read(request: Request) -> bytes:
    kind = _media_type(request)
    if kind not in {"", JSON, NPY}:
        raise MediaError("Content-Type", expected=f"{JSON} or {NPY}", found=kind[:60])
    settings: Settings = request.app.state.settings
    return await read_body(request, settings.max_body_bytes, settings.body_seconds)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_npy(request: Request) -> bool:
    return _media_type(request) == NPY


def _wants_npy(request: Request) -> bool:
    return NPY in request.headers.get("accept", "")


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _bounds(request: Request) -> Bounds:
    bounds: Bounds = request.app.state.bounds
    return bounds


def _tell(request: Request, rows: int) -> None:
    """Metrics and logs how much was answered, and by which version."""
    note = noted(request.scope)
    note.rows, note.version = rows, _engine(request).version.number


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics
