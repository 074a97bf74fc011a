"""The two hot calls past the framework: its fifteen layers cost more than the answer.

The routes are FastAPI's own, with their guard, and their errors leave by the one path; a request that is not exactly
theirs goes the usual way.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.service.errors import answer_error
from lookalike.service.parsing.bodies import header

__all__ = ["GZIP_BYTES", "GZIP_LEVEL", "FastPath"]

GZIP_BYTES, GZIP_LEVEL = 1_024, 1
"""A shorter answer is not worth it, and numbers hardly get shorter at a higher level."""

Handler = Callable[[Request], Awaitable[Response]]


class FastPath:
    """Answers `POST` to the given paths of a router by their routes' own handlers."""

    def __init__(self, app: ASGIApp, router: APIRouter, paths: tuple[str, ...]) -> None:
        self._app = app
        routes = [route for route in router.routes if isinstance(route, APIRoute) and route.path in paths]
        self._routes: dict[str, tuple[APIRoute, Handler]] = {
            route.path: (route, route.get_route_handler()) for route in routes
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], handler = found
        request = Request(scope, receive, send)
        answer: ASGIApp
        try:
            answer = await handler(request)
        except Exception as error:
            answer = await answer_error(request, error)
        if "gzip" in (header(request, b"accept-encoding") or ""):
            answer = GZipMiddleware(answer, GZIP_BYTES, GZIP_LEVEL)
        await answer(scope, receive, send)
