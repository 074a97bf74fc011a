"""The API key: asked for by the matched route itself, never by the look of a path."""

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.errors import UnauthorizedError
from service.settings import Settings

__all__ = ["GuardedRoute", "check_key"]


class GuardedRoute(APIRoute):
    """Asks for the key, then calls its endpoint, which takes the request and gives the response itself.

    FastAPI's own handler solves dependencies and serialises models, which costs a hot call more than its
    work; here it only describes the call to OpenAPI.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            check_key(request)
            response: Response = await self.endpoint(request)
            return response

        return handle


def check_key(request: Request) -> None:
    """Let through whoever has the key; where none is set, everyone on loopback.

    Raises:
        UnauthorizedError: no key, or another.
    """
    settings: Settings = request.app.state.settings
    if settings.api_key is None:
        return
    given, key = _given(request), settings.api_key.get_secret_value()
    if not hmac.compare_digest(_digest(given), _digest(key.encode("utf-8", "surrogateescape"))):
        raise UnauthorizedError("X-API-Key", expected="the service's API key", found="another" if given else "none")


def _given(request: Request) -> bytes:
    """The bytes that came: Starlette reads headers as Latin-1, whatever the client wrote them in."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    return (request.headers.get("x-api-key") or bearer).encode("latin-1")


def _digest(key: bytes) -> bytes:
    """Of one length, as compare_digest wants it."""
    return hashlib.sha256(key).digest()
