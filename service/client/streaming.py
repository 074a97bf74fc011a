"""One attempt over httpx, for both clients: its arguments, the parts received so far, and what a failure means."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from lookalike.service.client.errors import ConnectionFailed, TimedOut
from lookalike.service.client.messages import Failure, Response, Send

__all__ = ["ResponseStream"]

_UNSENT = (httpx.ConnectTimeout, httpx.PoolTimeout)
"""The timeouts before anything was sent. Other timeouts are not retried: a second call does not help a slow service."""
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


class ResponseStream:
    """A response that arrives in parts, within its timeout; `request`: the arguments of httpx's `stream`."""

    def __init__(self, send: Send, clock: Callable[[], float]) -> None:
        call = send.call
        # dots are quoted too, because ".." would mean the parent path
        segment = "" if call.item is None else "/" + quote(call.item, safe="").replace(".", "%2E")
        self.request: dict[str, Any] = {
            "method": call.method,
            "url": call.path + segment + call.suffix,
            "params": call.params or None,
            "headers": {**call.headers, "X-Request-ID": call.id},
            "content": call.body,
            "timeout": send.timeout,
        }
        self._send, self._clock = send, clock
        self._end = clock() + send.timeout
        self._started = False
        self._parts: list[bytes] = []

    def start(self) -> None:
        """Note that the status and the headers have arrived."""
        self._started = True

    def add(self, part: bytes) -> None:
        """Add a part. Raises ReadTimeout after the timeout, because httpx's own timeout restarts with each part."""
        self._parts.append(part)
        if self._clock() > self._end:
            raise httpx.ReadTimeout("the response did not end in time")

    def response(self, response: httpx.Response) -> Response:
        """The complete response. Its request id may differ from the one that was sent."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        request_id = headers.get("x-request-id", self._send.call.id)[:100]
        return Response(response.status_code, headers, b"".join(self._parts), request_id)

    def failure(self, error: httpx.HTTPError) -> Failure:
        """The failure of the attempt. It is retryable if no part of a response had arrived."""
        call = self._send.call
        detail = f"{call.method} /{call.path}: {type(error).__name__}, {error}".rstrip(", ")
        if isinstance(error, httpx.TimeoutException):
            failed: ConnectionFailed = TimedOut(f"{detail}, within {self._send.timeout:.3g} s", call.id)
        else:
            failed = ConnectionFailed(detail, call.id)
        failed.__cause__ = error
        return Failure(failed, retryable=not self._started and isinstance(error, (*_UNSENT, *_BROKEN)))
