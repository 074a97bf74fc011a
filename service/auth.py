"""The API key: asked for by a dependency on the matched route, never by the look of a path."""

import hashlib
import hmac

from fastapi import Request

from service.errors import UnauthorizedError
from service.settings import Settings

__all__ = ["require_key"]


async def require_key(request: Request) -> None:
    """Let through whoever has the key; where none is set, everyone on loopback.

    Raises:
        UnauthorizedError: no key, or another.
    """
    settings: Settings = request.app.state.settings
    if settings.api_key is None:
        return
    given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(_digest(given), _digest(settings.api_key.get_secret_value())):
        raise UnauthorizedError("X-API-Key", expected="the service's API key", found="another" if given else "none")


def _digest(key: str) -> bytes:
    """Of one length and ASCII, as compare_digest wants it; header values may be any Latin-1."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
