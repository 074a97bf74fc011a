"""Read a request's headers and body within its limits: media type, bytes, seconds, and the bytes of all requests.

ASGI reports that a body is complete, or that a client has disconnected, only to a task that waits for the report. Such
a task, or a timer, costs as much as a search. uvicorn knows both at once, in attributes of its request cycle, and no
public function reads them: `has_arrived` and `is_disconnected` do. With another server both return False.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from lookalike.service.errors import FullError, MalformedError, MediaError, SlowBodyError, TooLargeError
from lookalike.service.parsing.connection import receive_rest
from lookalike.service.parsing.rows import RequestLimits

__all__ = [
    "BODY_SHARE",
    "JSON",
    "MULTIPART",
    "NPY",
    "PHOTOS",
    "PUT_MEDIA",
    "QUERY_MEDIA",
    "ROW_MEDIA",
    "WEBP",
    "Body",
    "Budget",
    "Share",
    "check_media",
    "decode_body",
    "has_arrived",
    "header",
    "is_disconnected",
    "media_type",
    "read_body",
    "receive_body",
    "wants_npy",
]

JSON, NPY, MULTIPART = "application/json", "application/x-npy", "multipart/form-data"
WEBP = "image/webp"
PHOTOS = ("image/jpeg", "image/png", WEBP)
ROW_MEDIA = (JSON, NPY)
QUERY_MEDIA = (JSON, NPY, *PHOTOS, MULTIPART)
"""The media types of search and embed."""
PUT_MEDIA = (JSON, *PHOTOS, MULTIPART)
"""The media types of items."""

Query = TypeVar("Query")
Body = bytes | memoryview
"""A large body is one writable piece of memory, into which the socket was read."""
BODY_SHARE = "lookalike.body"
"""The key of a request's scope that holds its share of the budget."""
LARGE_BYTES = 1 << 18
"""A smaller body comes in a few parts."""


class Budget:
    """The bytes of request bodies that a process holds, from their arrival until their requests are answered."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0


class Share:
    """The part of a budget that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def check(self, count: int) -> None:
        """Raises FullError if the budget has no room for `count` more bytes."""
        if self._budget.held + count > self._budget.most:
            expected = f"at most {self._budget.most} bytes of all requests together"
            raise FullError("body", expected=expected, found=f"{self._budget.held} and {count} more")

    def take(self, count: int) -> None:
        """Count bytes that arrived. Raises FullError."""
        self.check(count)
        self._budget.held += count
        self._held += count

    def give_back(self) -> None:
        """Return all bytes to the budget, when the request is answered."""
        self._budget.held -= self._held
        self._held = 0


def header(request: Request, name: bytes) -> str | None:
    """The first header with this lower-case name, or None. Starlette's own lookup takes several times as long."""
    for known, value in request.scope["headers"]:
        if known == name:
            return str(value, "latin-1")
    return None


def media_type(request: Request) -> str:
    """The Content-Type without parameters, in lower case; "" if there is none."""
    return (header(request, b"content-type") or "").partition(";")[0].strip().lower()


def wants_npy(request: Request) -> bool:
    """Whether the client accepts an .npy file."""
    return NPY in (header(request, b"accept") or "")


def check_media(request: Request, kinds: Sequence[str] = (JSON, NPY), *, empty: bool = True) -> None:
    """Raises MediaError unless the body has one of these media types and is not compressed.

    A browser sends a POST of some media types, among them forms, to another origin without asking first. So only calls
    that change nothing accept a form by POST; PUT accepts one too, because a browser always asks before a PUT. If
    `empty`, a request without a body needs no Content-Type.
    """
    kind = media_type(request)
    if kind not in kinds:
        is_chunked = header(request, b"transfer-encoding") is not None
        has_body = is_chunked or header(request, b"content-length") not in (None, "0")
        if kind or has_body or not empty:
            raise MediaError("Content-Type", expected=" or ".join(kinds), found=kind[:60] or "none")
    coding = header(request, b"content-encoding")
    if coding is not None and coding.strip().lower() != "identity":
        raise MediaError("Content-Encoding", expected="a body that is not compressed", found=coding[:60] or "nothing")


async def receive_body(request: Request, kinds: Sequence[str] = QUERY_MEDIA) -> Body:
    """Return the body of a guarded call, within the app's limits. Raises as `check_media` and `read_body` do."""
    check_media(request, kinds, empty=False)
    state = request.app.state
    share = request.scope[BODY_SHARE] = Share(state.budget)
    return await read_body(request, state.settings.max_body_bytes, state.settings.body_seconds, share)


async def read_body(request: Request, max_bytes: int, seconds: float, share: Share) -> Body:
    """Return the whole body; `share` counts its bytes as they arrive.

    Raises:
        FullError: the requests of this process already hold too many bytes; retry later.
        TooLargeError: the body is larger than `max_bytes`, by its Content-Length or by the bytes that arrived.
        SlowBodyError: the body did not arrive in time.
        MalformedError: Content-Length is not a number, or the client disconnected before the end.
    """
    if (claimed := header(request, b"content-length")) is None:
        claimed = "0"
    if not (claimed.isascii() and claimed.isdigit() and len(claimed) < 20):
        raise MalformedError("Content-Length", expected="a number", found=claimed[:40])
    size = int(claimed)
    if size > max_bytes:
        raise _too_large(max_bytes, claimed)
    share.check(size)
    try:
        if has_arrived(request):
            return await _join_parts(request, size, max_bytes, share)
        async with asyncio.timeout(seconds):
            return await _join_parts(request, size, max_bytes, share)
    except TimeoutError as error:
        raise SlowBodyError("body", expected=f"all of it within {seconds:g} s", found="a part") from error
    except ClientDisconnect as error:
        raise MalformedError("body", expected="all of it", found="a part, then the client left") from error


async def decode_body(decode: Callable[[bytes, RequestLimits], Query], body: Body, limits: RequestLimits) -> Query:
    """Decode a JSON body; a large one in a thread, so that other calls are answered in the meantime."""
    if len(body) <= limits.large_bytes:
        return decode(bytes(body), limits)
    return await asyncio.to_thread(lambda: decode(bytes(body), limits))


def has_arrived(request: Request) -> bool:
    """Whether the whole body has arrived, so that reading it does not wait."""
    return getattr(_cycle(request), "more_body", True) is False


def is_disconnected(request: Request) -> Callable[[], bool]:
    """A function that returns whether the client has closed its connection."""
    cycle = _cycle(request)
    return lambda: getattr(cycle, "disconnected", False) is True


async def _join_parts(request: Request, claimed: int, max_bytes: int, share: Share) -> Body:
    parts: list[Body] = []
    size = 0
    async for part in request.stream():
        if part:
            share.take(len(part))
            parts.append(part)
            size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes, "more")
        if claimed - size >= LARGE_BYTES and (whole := await receive_rest(request, parts, claimed, share.take)):
            parts, size = [whole], claimed
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int, found: str) -> TooLargeError:
    return TooLargeError("body", expected=f"at most {max_bytes} bytes", found=found)


def _cycle(request: Request) -> object:
    """uvicorn's state of this request; None with another server."""
    return getattr(request.receive, "__self__", None)
