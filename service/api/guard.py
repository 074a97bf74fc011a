"""The entry of every guarded call: check the key, then call the endpoint.

`POST /embed` and `POST /search` skip the framework (`FastPath`, which service.app adds).

The matched route itself checks the key, so no spelling of a path avoids the check.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from lookalike.service.errors import ForbiddenError, MalformedError, UnauthorizedError, answer_error
from lookalike.service.parsing.bodies import BODY_SHARE, check_media, header
from lookalike.service.security.keys import KeyRing, Scope
from lookalike.service.settings import Settings

__all__ = ["GZIP_BYTES", "GZIP_LEVEL", "FastPath", "GuardedRoute", "WriteRoute", "allow_origins", "check_key"]

GZIP_BYTES, GZIP_LEVEL = 1_024, 1
"""A shorter answer is not compressed; a higher level hardly makes numbers shorter."""
_LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class FastPath:
    """Answers `POST` to the given paths of a router by their routes' own handlers.

    The framework's fifteen layers cost more than a hot call. Every other request, and every other spelling of a path,
    goes through the framework.
    """

    def __init__(self, app: ASGIApp, router: APIRouter, paths: tuple[str, ...]) -> None:
        self._app = app
        routes = [route for route in router.routes if isinstance(route, APIRoute) and route.path in paths]
        self._routes = {route.path: (route, route.get_route_handler()) for route in routes}

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        matched = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if matched is None:
            await self._app(scope, receive, send)
            return
        scope["route"], handler = matched
        request = Request(scope, receive, send)
        answer: ASGIApp
        try:
            answer = await handler(request)
        except Exception as error:
            answer = await answer_error(request, error)
        if "gzip" in (header(request, b"accept-encoding") or ""):
            answer = GZipMiddleware(answer, GZIP_BYTES, GZIP_LEVEL)
        await answer(scope, receive, send)


class GuardedRoute(APIRoute):
    """Requires a key that may read, then calls its endpoint with the request; the endpoint returns the response.

    FastAPI's own handler resolves dependencies and serializes models, which takes longer than a hot call. Here FastAPI
    only describes the call in OpenAPI.
    """

    def get_route_handler(self) -> Handler:
        return _guarded(self.endpoint, "read")


class WriteRoute(APIRoute):
    """A guarded route that changes something: requires a key that may write."""

    def get_route_handler(self) -> Handler:
        return _guarded(self.endpoint, "write")


def allow_origins(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app, which also answers web pages of the origins that the settings allow."""
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["X-API-Key", "Authorization"],
        expose_headers=["X-Lookalike-Version", "X-Request-Id", "Retry-After"],
    )


def check_key(request: Request, needs: Scope) -> None:
    """Check that the request has a key of the needed scope, and note the key's name for the log.

    Raises:
        UnauthorizedError: no key, or a wrong key.
        ForbiddenError: a key of a smaller scope; or the service has no keys, and a page of another origin calls.
    """
    keys: KeyRing | None = request.app.state.keys
    if keys is None:
        _check_local(request)
        return
    scheme, _, token = (header(request, b"authorization") or "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    key = (header(request, b"x-api-key") or bearer).encode("latin-1")  # as sent: Starlette decodes it as Latin-1
    caller = keys.find(key)
    if caller is None:
        found = "another key" if key else "no key"
        raise UnauthorizedError("X-API-Key", expected="an API key of this service", found=found)
    request.state.key_name = caller.name
    if not caller.may(needs):
        found = f"{caller.name}, of scope {caller.scope}"
        raise ForbiddenError("X-API-Key", expected=f"a key of scope {needs}", found=found)


def _guarded(endpoint: Callable[[Request], Awaitable[Response]], needs: Scope) -> Handler:
    async def handle(request: Request) -> Response:
        check_key(request, needs)
        _check_text(request)
        # Calls with a body check its media type when they read it. A browser asks before each PUT.
        if needs == "write" and request.method != "PUT":
            check_media(request)
        try:
            return await endpoint(request)
        finally:
            if BODY_SHARE in request.scope:
                request.scope[BODY_SHARE].give_back()

    return handle


def _check_text(request: Request) -> None:
    """Raises MalformedError if the path or the query is not UTF-8: the server has replaced such bytes by U+FFFD."""
    scope = request.scope
    if "\ufffd" not in scope["path"] and b"%" not in scope["query_string"]:
        return
    raw = {"path": scope["raw_path"] if "\ufffd" in scope["path"] else b"", "query": scope["query_string"]}
    for field, text in raw.items():
        if b"%" not in text:
            continue
        try:
            unquote_to_bytes(text).decode()
        except UnicodeDecodeError as error:
            found = f"%{error.object[error.start]:02X}"
            raise MalformedError(field, expected="percent-encoded UTF-8", found=found) from error


def _check_local(request: Request) -> None:
    """Check that the caller is local, because without keys any page in the user's browser could call the service.

    A page can call it by any name of this machine. A browser sends a page's POST to another origin without asking
    first; it only hides the answer from the page.
    """
    host = header(request, b"host") or ""
    if not _LOCAL.fullmatch(host):
        expected = "localhost or a loopback address, or a service with keys"
        raise ForbiddenError("Host", expected=expected, found=host[:80] or "none")
    origin = header(request, b"origin")
    if origin is None or request.method == "GET":
        return
    own, allowed = f"{request.url.scheme}://{host}", request.app.state.settings.cors_origins
    if origin not in {own, *allowed} and "*" not in allowed:
        raise ForbiddenError("Origin", expected=own, found=origin[:80] or "nothing")
