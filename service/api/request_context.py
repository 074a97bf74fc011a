"""What every route that is guarded takes from its request: the body, its media type, and what serves."""

from collections.abc import Sequence

from fastapi import Request

from lookalike.service.observability.logs import noted
from lookalike.service.parsing.bodies import (
    BODY_SHARE,
    JSON,
    NPY,
    Body,
    Share,
    check_media,
    header,
    media_type,
    read_body,
)
from lookalike.service.serving.serving import Current, Serving
from lookalike.service.settings import Settings

__all__ = ["is_npy", "read_body_of", "record_answer", "serving_of", "wants_npy"]


async def read_body_of(request: Request, kinds: Sequence[str] = (JSON, NPY)) -> Body:
    """The body. Raises MediaError unless it is of one of these kinds, and what `read_body` raises."""
    check_media(request, kinds, empty=False)
    state = request.app.state
    settings: Settings = state.settings
    share = request.scope[BODY_SHARE] = Share(state.budget)
    return await read_body(request, settings.max_body_bytes, settings.body_seconds, share)


def is_npy(request: Request) -> bool:
    return media_type(request) == NPY


def wants_npy(request: Request) -> bool:
    return NPY in (header(request, b"accept") or "")


def serving_of(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def record_answer(request: Request, current: Current, rows: int) -> None:
    """Metrics and logs how much was answered, and by which version."""
    note = noted(request.scope)
    note.rows, note.version = rows, current.version.number
