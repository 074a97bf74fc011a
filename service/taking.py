"""What every route that is guarded takes from its request: the body, its media type, and what serves."""

from collections.abc import Sequence

from fastapi import Request

from service.bodies import Body, read_body
from service.encoding import JSON, NPY
from service.errors import MediaError
from service.logs import noted
from service.serving import Current, Serving
from service.settings import Settings

__all__ = ["is_npy", "read", "serving_of", "tell", "wants_npy"]


async def read(request: Request, kinds: Sequence[str] = (JSON, NPY)) -> Body:
    """The body. Raises MediaError where it is of no such kind, and what `read_body` raises."""
    kind = _media_type(request)
    if kind not in {"", *kinds}:
        raise MediaError("Content-Type", expected=" or ".join(kinds), found=kind[:60])
    settings: Settings = request.app.state.settings
    return await read_body(request, settings.max_body_bytes, settings.body_seconds)


def is_npy(request: Request) -> bool:
    return _media_type(request) == NPY


def wants_npy(request: Request) -> bool:
    return NPY in request.headers.get("accept", "")


def serving_of(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def tell(request: Request, current: Current, rows: int) -> None:
    """Metrics and logs how much was answered, and by which version."""
    note = noted(request.scope)
    note.rows, note.version = rows, current.version.number


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
