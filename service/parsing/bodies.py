"""Read a request's body within its bounds: media type, bytes, seconds, and the bytes that all requests hold."""

import asyncio
from collections.abc import Sequence

from starlette.requests import ClientDisconnect, Request

from lookalike.service.errors import FullError, MalformedError, MediaError, SlowBodyError, TooLargeError
from lookalike.service.parsing.connection import has_arrived, receive_rest

__all__ = ["BODY_SHARE", "JSON", "NPY", "Body", "Budget", "Share", "check_media", "header", "media_type", "read_body"]

JSON, NPY = "application/json", "application/x-npy"

Body = bytes | memoryview
"""A large one is where it arrived, and may be written to."""
BODY_SHARE = "lookalike.body"
"""The key of a request's scope under which its share of the budget is."""
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

    def check(self, more: int) -> None:
        """Raises FullError if the budget has no room for so many bytes more."""
        if self._budget.held + more > self._budget.most:
            expected = f"at most {self._budget.most} bytes of all requests together"
            raise FullError("body", expected=expected, found=f"{self._budget.held} and {more} more")

    def take(self, count: int) -> None:
        """Count bytes that arrived. Raises FullError."""
        self.check(count)
        self._budget.held += count
        self._held += count

    def give_back(self) -> None:
        """The request is answered."""
        self._budget.held -= self._held
        self._held = 0


def header(request: Request, name: bytes) -> str | None:
    """The first header of that lower-case name, if any. Starlette's own way takes several times as long."""
    for known, value in request.scope["headers"]:
        if known == name:
            return str(value, "latin-1")
    return None


def media_type(request: Request) -> str:
    """The Content-Type without parameters, in lower case; "" if there is none."""
    return (header(request, b"content-type") or "").partition(";")[0].strip().lower()


def check_media(request: Request, kinds: Sequence[str] = (JSON, NPY), *, empty: bool = True) -> None:
    """Raises MediaError unless the body is of one of these kinds and not compressed.

    A browser sends any other kind to another origin without asking first.

    Args:
        empty: a request without a body needs no Content-Type.
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


async def read_body(request: Request, max_bytes: int, seconds: float, share: Share) -> Body:
    """The whole body, whose bytes `share` counts as they arrive.

    Raises:
        FullError: the requests of this process hold too many bytes already; retry later.
        TooLargeError: it is larger than `max_bytes`, by its own word or by what came.
        SlowBodyError: it did not come in time.
        MalformedError: a Content-Length that is no number, or a client that left before the end.
    """
    claimed = header(request, b"content-length")
    claimed = "0" if claimed is None else claimed
    if not (claimed.isascii() and claimed.isdigit() and len(claimed) < 20):
        raise MalformedError("Content-Length", expected="a number", found=claimed[:40])
    size = int(claimed)
    if size > max_bytes:
        raise _too_large(max_bytes, claimed)
    share.check(size)
    try:
        if has_arrived(request):
            return await _gather(request, size, max_bytes, share)
        async with asyncio.timeout(seconds):
            return await _gather(request, size, max_bytes, share)
    except TimeoutError as error:
        raise SlowBodyError("body", expected=f"all of it within {seconds:g} s", found="a part") from error
    except ClientDisconnect as error:
        raise MalformedError("body", expected="all of it", found="a part, then the client left") from error


async def _gather(request: Request, claimed: int, max_bytes: int, share: Share) -> Body:
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
