"""One attempt as httpx sees it, for both drivers: what to send, what has come so far, and what a failure means."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from lookalike.service.client.errors import ConnectionFailed, TimedOut
from lookalike.service.client.messages import Answer, Failure, Send

__all__ = ["Receiving"]

_UNSENT = (httpx.ConnectTimeout, httpx.PoolTimeout)
"""Of timeouts, those before which nothing was sent: a service that is slow to answer is not helped by a second call."""
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


class Receiving:
    """An answer that comes in, in parts, within the seconds that it has.

    Attributes:
        request: the arguments of httpx's `stream`.
    """

    def __init__(self, send: Send, clock: Callable[[], float]) -> None:
        call = send.call
        self.request: dict[str, Any] = {
            "method": call.method,
            "url": call.path if call.item is None else f"{call.path}/{_quoted(call.item)}",
            "params": call.params or None,
            "headers": {**call.headers, "X-Request-ID": call.id},
            "content": call.body,
            "timeout": send.seconds,
        }
        self._send = send
        self._clock = clock
        self._end = clock() + send.seconds
        self._begun = False
        self._parts: list[bytes] = []

    def begin(self) -> None:
        """The status and the headers are here."""
        self._begun = True

    def add(self, part: bytes) -> None:
        """One more part. Raises ReadTimeout where it is too late: httpx's own timeout begins anew with each part."""
        self._parts.append(part)
        if self._clock() > self._end:
            raise httpx.ReadTimeout("the answer did not end in time")

    def answer(self, response: httpx.Response) -> Answer:
        """All of it. The service may call the request by another name than we did."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        request_id = headers.get("x-request-id", self._send.call.id)[:100]
        return Answer(response.status_code, headers, b"".join(self._parts), request_id)

    def failed(self, error: httpx.HTTPError) -> Failure:
        """Safe to send again where nothing of an answer had come."""
        call = self._send.call
        what = f"{call.method} /{call.path}: {type(error).__name__}, {error}".rstrip(", ")
        late = isinstance(error, httpx.TimeoutException)
        told = (
            TimedOut(f"{what}, within {self._send.seconds:.3g} s", call.id) if late else ConnectionFailed(what, call.id)
        )
        told.__cause__ = error
        return Failure(told, again=not self._begun and isinstance(error, (*_UNSENT, *_BROKEN)))


def _quoted(name: str) -> str:
    """An id as the last part of a path, dots too: ".." would be taken for the folder above."""
    return quote(name, safe="").replace(".", "%2E")
