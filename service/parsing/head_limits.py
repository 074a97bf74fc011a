"""uvicorn's HTTP protocol with limits on everything except bodies: bytes, lines and seconds.

The parser keeps a URL, headers and trailers of any length, and parses all data of a client at once. Here a request has
at most 64 KiB besides its body, and its head must be complete in time. Data of an unusual shape is parsed in small
steps, for a few milliseconds in each turn of the event loop, so that no client delays the others.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from lookalike.service.errors import problem

__all__ = ["HEADERS", "HEAD_BYTES", "PARAMETERS", "PATH_BYTES", "BoundedProtocol"]

HEAD_BYTES = 1 << 16
"""Limit of the request line, headers, trailers and chunk sizes together."""
PATH_BYTES = 1 << 13
"""Limit of the path alone; an id of 256 characters takes up to 3 KiB."""
PARAMETERS = 64
HEADERS = 256
LINES = 64
"""Data with more lines is parsed in steps, because it may have many requests, headers or chunks."""
STEP_BYTES = 1 << 10
TURN_SECONDS = 0.001
"""Time for parsing in steps in one turn of the event loop, of all connections together."""
CHUNK_SHARE = 8
"""Bytes of chunk sizes and extensions that may come with one byte of the body."""
LINGER_SECONDS = 1.0
"""A refused connection stays open this long: if it closes with unread bytes, the client loses the answer."""
DRAIN_SECONDS = 0.03
"""Seconds between two reads of dropped bytes."""
_CHUNKED = -1

Refusal = Literal[400, 408, 414, 431]
_ERRORS: dict[Refusal, tuple[str, str, str]] = {
    400: ("request", "HTTP/1.1", "bytes that are not HTTP/1.1"),
    408: ("request", "the whole head in time", "a part of the head"),
    414: (
        "URL",
        f"at most {PATH_BYTES} bytes of path, {PARAMETERS} parameters, {HEAD_BYTES} bytes in all",
        "a longer URL",
    ),
    431: ("headers", f"at most {HEADERS} headers, and {HEAD_BYTES} bytes besides the body", "more headers or bytes"),
}
"""Field, expected and found of each refusal."""


class BoundedProtocol(HttpToolsProtocol):
    """Limits one connection."""

    head_seconds = 10.0
    """Limit for a head, from the connection or its first byte on; and for the rest of an answered request's body."""

    flow: "_Flow"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._room = HEAD_BYTES
        self._body = 0  # bytes of the body that are still to come; 0 outside of a body
        self._rest = memoryview(b"")  # received, but not parsed yet
        self._refusal: Refusal | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turns = _turns.setdefault(self.server_state, _Turns(self.loop))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest = memoryview(b"")
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            self.flow.pause_reading()
            self.loop.call_later(DRAIN_SECONDS, self._resume_reading)
            return
        if self._rest or self.pipeline:
            self._hold(data)
        elif self._body:
            if len(data) <= self._body and not self.cycle.response_complete:
                self._feed(data)
            else:
                self._hold(data)
        elif len(data) <= self._room and data.count(b"\n") <= LINES:
            self._feed(data)
        else:
            self._hold(data)

    def on_headers_complete(self) -> None:
        if self._timer:
            self._stop_timer()
        if len(self.url) > STEP_BYTES and not _is_short(self.url):
            self._refusal = 414
        elif len(self.headers) > HEADERS:
            self._refusal = 431
        if self._refusal:
            raise ValueError("the head is too large")
        super().on_headers_complete()
        self.headers = []  # trailers are not headers

    def on_body(self, body: bytes) -> None:
        if self._body == _CHUNKED:
            self._room += (1 + CHUNK_SHARE) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._room, self._body = HEAD_BYTES, 0
        if self._timer:
            self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal and not self.pipeline:
            self._send_refusal()
        if self._body and self.cycle.response_complete:
            self._start_timer()
        if self._rest:
            self._turns.add(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse the request; uvicorn calls this if the parser fails."""
        self._refuse(self._refusal or 400)

    def take_step(self) -> bool:
        """Parse a part of the held data; return whether more can be parsed now."""
        if not self._rest or self.pipeline or self._refusal:
            return False
        size = self._body if self._body > 0 else STEP_BYTES
        part, self._rest = self._rest[:size], self._rest[size:]
        self._feed(part)
        if self._rest:
            return True
        self.flow.held = False
        cycle = self.cycle
        if not self.pipeline and (not cycle or cycle.response_complete or len(cycle.body) <= HIGH_WATER_LIMIT):
            self.flow.resume_reading()
        return False

    def _hold(self, data: bytes) -> None:
        """Hold the data for parsing in steps, and read no more until it is parsed."""
        self.flow.pause_reading()
        self.flow.held = True
        self._rest = memoryview(bytes(self._rest) + data if self._rest else data)
        if self._body and self.cycle.response_complete:
            self.loop.call_later(DRAIN_SECONDS, self._turns.add, self)
        else:
            self._turns.add(self)

    def _resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _feed(self, data: bytes | memoryview) -> None:
        if self._body > 0:
            self._body -= len(data)
            super().data_received(data)  # type: ignore[arg-type]
            return
        before, chunked = self.cycle, self._body == _CHUNKED
        super().data_received(data)  # type: ignore[arg-type]
        if self._refusal:
            return
        if self._body == _CHUNKED:
            self._room = min(HEAD_BYTES, self._room - len(data))
        elif self.cycle is not before:
            if self.cycle.more_body:
                self._body = _rest_of_body(self.cycle.scope["headers"], len(self.cycle.body))
        elif not chunked:  # a part of a head
            self._room -= len(data)
            self._start_timer()
            if len(self.headers) > HEADERS:  # now, because the garbage collector scans all headers
                self._room = -1
        if self._room < 0:
            self._refuse(414 if len(self.url) > HEAD_BYTES // 2 else 431)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._is_late)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        if self._body or self._room == HEAD_BYTES:
            self.transport.close()
        else:
            self._refuse(408)

    def _refuse(self, status: Refusal) -> None:
        """Send the refusal after the answers to earlier requests, and close the connection."""
        self._refusal = status
        self._rest = memoryview(b"")
        cycle = self.cycle
        if self._body and cycle.response_complete:
            self.transport.close()  # the request is already answered
        elif cycle is None or cycle.response_complete:
            self._send_refusal()
        elif cycle.more_body:  # the error is in its body
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
            else:
                self._send_refusal()

    def _send_refusal(self) -> None:
        if self.transport.is_closing() or self._refusal is None:
            return
        self._stop_timer()
        self._unset_keepalive_if_required()
        field, expected, found = _ERRORS[self._refusal]
        detail = f"{field}: expected {expected}, found {found}"
        answer = problem(self._refusal, detail, field=field, expected=expected, found=found)
        answer.headers["connection"] = "close"
        lines = [b"%s: %s\r\n" % header for header in answer.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[self._refusal], *lines, b"\r\n", bytes(answer.body)]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.held = False
            self.flow.resume_reading()
            self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


class _Flow(FlowControl):
    """Never resumes reading while data is held."""

    held = False

    def resume_reading(self) -> None:
        if self.read_paused and not self.held:
            super().resume_reading()


class _Turns:
    """Lets the connections parse their held data in turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[BoundedProtocol] = deque()

    def add(self, protocol: BoundedProtocol) -> None:
        if not self._waiting:
            self._loop.call_soon(self._run)
        if protocol not in self._waiting:
            self._waiting.append(protocol)

    def _run(self) -> None:
        until = time.perf_counter() + TURN_SECONDS
        while self._waiting and time.perf_counter() < until:
            protocol = self._waiting[0]
            has_more = protocol.take_step()
            self._waiting.popleft()
            if has_more:
                self._waiting.append(protocol)
        if self._waiting:
            self._loop.call_soon(self._run)


_turns: WeakKeyDictionary[ServerState, _Turns] = WeakKeyDictionary()


def _is_short(url: bytes) -> bool:
    path, _, query = url.partition(b"?")
    return len(path) <= PATH_BYTES and query.count(b"&") < PARAMETERS


def _rest_of_body(headers: Iterable[tuple[bytes, bytes]], received: int) -> int:
    """The bytes of a body that are still to come, by its Content-Length; `_CHUNKED` without one."""
    length = next((value for name, value in headers if name == b"content-length"), None)
    return _CHUNKED if length is None else int(length) - received
