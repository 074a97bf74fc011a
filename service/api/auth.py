"""Who may call: the key is asked for by the matched route itself, never by the look of a path."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from lookalike.service.errors import ForbiddenError, MalformedError, UnauthorizedError
from lookalike.service.parsing.bodies import BODY_SHARE, check_media, header
from lookalike.service.security.keys import KeyRing, Scope
from lookalike.service.settings import Settings

__all__ = ["GuardedRoute", "WriteRoute", "check_key", "let_in"]

_LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """Asks for a key that may read, then calls its endpoint, which takes the request and gives the response itself.

    FastAPI's own handler solves dependencies and serialises models, which costs a hot call more than its
    work; here it only describes the call to OpenAPI.
    """

    def get_route_handler(self) -> Handler:
        return _guarded(self.endpoint, "read")


class WriteRoute(APIRoute):
    """The same for a route that changes something: it asks for a key that may write."""

    def get_route_handler(self) -> Handler:
        return _guarded(self.endpoint, "write")


def let_in(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app, and the pages of other origins let in where some are set."""
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
    """Let through whose key may do what the route needs, and note its name; where none is asked for, everyone.

    Raises:
        UnauthorizedError: no key, or a wrong one.
        ForbiddenError: a key of a smaller scope; or the service asks for no key, and a page of another origin calls.
    """
    keys: KeyRing = request.app.state.keys
    if not keys.asks:
        _check_local(request)
        return
    given = _given(request)
    caller = keys.find(given)
    if caller is None:
        raise UnauthorizedError(
            "X-API-Key", expected="an API key of this service", found="another" if given else "none"
        )
    request.state.key_name = caller.name
    if not caller.may(needs):
        raise ForbiddenError(
            "X-API-Key", expected=f"a key of scope {needs}", found=f"{caller.name}, of scope {caller.scope}"
        )


def _guarded(endpoint: Callable[[Request], Awaitable[Response]], needs: Scope) -> Handler:
    async def handle(request: Request) -> Response:
        check_key(request, needs)
        _check_text(request)
        if needs == "write":  # the routes that only read check the type as they read the body
            check_media(request)
        try:
            return await endpoint(request)
        finally:
            if BODY_SHARE in request.scope:
                request.scope[BODY_SHARE].give_back()

    return handle


def _check_text(request: Request) -> None:
    """Raises MalformedError if the path or the query is not UTF-8: the server has put U+FFFD there instead."""
    scope = request.scope
    if "\ufffd" not in scope["path"] and b"%" not in scope["query_string"]:  # as usual
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
    """If the service asks for no key, any page that the user opens could call it, by a name for this machine.

    A browser sends a page's POST to another origin without asking first, and only keeps the answer from the page.
    """
    host = header(request, b"host") or ""
    if not _LOCAL.fullmatch(host):
        raise ForbiddenError(
            "Host", expected="localhost or a loopback address, or a service with keys", found=host[:80] or "none"
        )
    origin = header(request, b"origin")
    if origin is None or request.method == "GET":
        return
    own, allowed = f"{request.url.scheme}://{host}", request.app.state.settings.cors_origins
    if origin not in {own, *allowed} and "*" not in allowed:
        raise ForbiddenError("Origin", expected=own, found=origin[:80] or "nothing")


def _given(request: Request) -> bytes:
    """The bytes that came: Starlette reads headers as Latin-1, whatever the client wrote them in."""
    scheme, _, token = (header(request, b"authorization") or "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    return (header(request, b"x-api-key") or bearer).encode("latin-1")
