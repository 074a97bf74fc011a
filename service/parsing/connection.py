"""Receive a large body straight into one piece of memory, by uvicorn's private protocol classes.

uvicorn copies each part of a body four times. For a large body, the copies together take more than half of the
encoder's time, and no public function of uvicorn or ASGI avoids them. tests/service/parsing/test_connection.py names
the version of uvicorn whose private parts this module uses.
"""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from httptools import HttpRequestParser
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["receive_rest"]

READ_BYTES = 1 << 19
"""The most bytes of a large body that are read in one turn of the event loop."""


async def receive_rest(
    request: Request, begun: Sequence[bytes | memoryview], size: int, count: Callable[[int], None]
) -> memoryview | None:
    """Return a body of `size` bytes, which began with the parts `begun`, in one piece of memory; None if impossible.

    The rest goes from the socket straight into its place. The system allocates memory only when it is written to, so
    bytes that a client only announces take none. If the client disconnects before the end, ASGI's next message reports
    it; otherwise the next message is the end of the body.

    Args:
        count: called with each number of bytes that arrived. If it raises, so does this function, and the caller must
            close the connection.
    """
    cycle = getattr(request.receive, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or request.scope["scheme"] != "http" or cycle.body:
        return None
    if getattr(cycle.flow, "held", False):  # a part was received and is not parsed yet
        return None
    transport, flow, protocol = cycle.transport, cycle.flow, cycle.transport.get_protocol()
    if not isinstance(protocol, HttpToolsProtocol) or protocol.cycle is not cycle or not cycle.more_body:
        return None
    first = b"".join(begun)
    whole = np.empty(size, np.uint8).data
    whole[: len(first)] = first
    receiver = _Receiver(protocol, whole[len(first) :], count)
    flow.pause_reading()
    transport.set_protocol(receiver)
    flow.resume_reading()
    try:
        await receiver.ended
    finally:
        flow.pause_reading()
        transport.set_protocol(protocol)
    if not cycle.disconnected:
        protocol.parser = HttpRequestParser(protocol)  # the old parser still waits for these bytes
        protocol.on_message_complete()
        flow.resume_reading()
    return whole


class _Receiver(asyncio.BufferedProtocol):
    """Replaces the protocol of a connection until `rest` is full or the client disconnects."""

    def __init__(self, protocol: HttpToolsProtocol, rest: memoryview, count: Callable[[int], None]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._protocol = protocol
        self._rest = rest
        self._count = count

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._rest[:READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self._rest = self._rest[nbytes:]
        try:
            self._count(nbytes)
        except Exception as error:
            self._protocol.flow.pause_reading()
            if not self.ended.done():
                self.ended.set_exception(error)
            return
        if not self._rest:
            self._protocol.flow.pause_reading()  # the next bytes are of the next request
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._end()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
