"""What uvicorn knows of a request and ASGI does not say at once: is its body all there, is its client gone?

ASGI tells both only to a task that waits for it, and such a task, or a timer, costs as much as a search. Nor does it
let a large body go where it is wanted: uvicorn copies each part four times, which together cost more than half of what
the encoder takes for it. Of another server nothing is known, and the usual ways are taken.
"""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from httptools import HttpRequestParser
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["has_arrived", "is_disconnected", "receive_rest"]

READ_BYTES = 1 << 19
"""The most bytes of a large body that are read in one turn of the event loop."""


def has_arrived(request: Request) -> bool:
    """Is the whole body there, so that reading it does not wait?"""
    return getattr(_cycle(request), "more_body", True) is False


def is_disconnected(request: Request) -> Callable[[], bool]:
    """A question that may be asked at any time: has the client closed its connection?"""
    cycle = _cycle(request)
    return lambda: getattr(cycle, "disconnected", False) is True


async def receive_rest(
    request: Request, begun: Sequence[bytes | memoryview], size: int, took: Callable[[int], None]
) -> memoryview | None:
    """A body of `size` bytes that began with those parts, all in one piece of memory; None where it cannot be had so.

    The rest comes from the socket straight into its place. The system gives memory as it is written to, so that what a
    client only says that it will send costs nothing. `took` is called with each number of bytes that arrived; if it
    raises, so does this function, and the connection must be closed. If the client leaves before the end, ASGI's next
    message says so; else it is the end of the body.
    """
    cycle = _cycle(request)
    if not isinstance(cycle, RequestResponseCycle) or request.scope["scheme"] != "http" or cycle.body:
        return None
    if getattr(cycle.flow, "held", False):  # a part has been received, and is not parsed yet
        return None
    transport, flow, local_scale = cycle.transport, cycle.flow, cycle.transport.get_protocol()
    if not isinstance(local_scale, HttpToolsProtocol) or local_scale.cycle is not cycle or not cycle.more_body:
        return None
    first = b"".join(begun)
    whole = np.empty(size, np.uint8).data
    whole[: len(first)] = first
    receiver = _Receiver(local_scale, whole[len(first) :], took)
    flow.pause_reading()
    transport.set_protocol(receiver)
    flow.resume_reading()
    try:
        await receiver.ended
    finally:
        flow.pause_reading()
        transport.set_protocol(local_scale)
    if not cycle.disconnected:
        local_scale.parser = HttpRequestParser(local_scale)  # the old one waits for bytes that it will not see
        local_scale.on_message_complete()
        flow.resume_reading()
    return whole


class _Receiver(asyncio.BufferedProtocol):
    """Has a connection in the place of the usual protocol until `rest` is full, or the client gone."""

    def __init__(self, local_scale: HttpToolsProtocol, rest: memoryview, took: Callable[[int], None]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._local_scale = local_scale
        self._rest = rest
        self._took = took

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._rest[:READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self._rest = self._rest[nbytes:]
        try:
            self._took(nbytes)
        except Exception as error:
            self._local_scale.flow.pause_reading()
            if not self.ended.done():
                self.ended.set_exception(error)
            return
        if not self._rest:
            self._local_scale.flow.pause_reading()  # what follows is the next request's
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._local_scale.connection_lost(exc)
        self._end()

    def pause_writing(self) -> None:
        self._local_scale.pause_writing()

    def resume_writing(self) -> None:
        self._local_scale.resume_writing()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _cycle(request: Request) -> object:
    return getattr(request.receive, "__self__", None)
