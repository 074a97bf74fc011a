"""A client for what wrk cannot do: it checks every answer, mixes calls, and can send at a rate instead of in a loop.

The latency of a request at a rate counts from when it was due, so that a server that stalls is charged for every
request that would have been sent during the stall.
"""

import asyncio
import io
import re
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Figures", "Reply", "Shot", "Traffic", "posted", "to_npy"]

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"
TICK = 0.001


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its raw head, and its body."""

    status: int
    head: bytes
    body: bytes


def only_ok(reply: Reply) -> str:
    """Report any status other than 200 as wrong."""
    return "" if reply.status == 200 else f"status {reply.status}"


@dataclass(frozen=True)
class Shot:
    """The bytes of a request; `check` returns what is wrong with its answer, or nothing."""

    request: bytes
    check: Callable[[Reply], str] = only_ok


def posted(path: str, body: bytes, takes: str = "application/json", gives: str = "*/*") -> bytes:
    """A POST on a connection that stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {takes}\r\nAccept: {gives}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def to_npy(array: NDArray[Any]) -> bytes:
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


@dataclass
class Figures:
    """The latencies in seconds, the number of wrong answers by kind, and the duration."""

    latencies: "array[float]" = field(default_factory=lambda: array("f"))
    wrong: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latencies in milliseconds."""
        return float(np.percentile(np.frombuffer(self.latencies, np.float32), percent)) * 1e3


class Traffic:
    """Requests in turn over some connections: each sends after its answer, or all of them send `rate` per second."""

    def __init__(self, port: int, shots: Sequence[Shot], connections: int, rate: float | None = None) -> None:
        self.figures = Figures()
        self._port = port
        self._shots = cycle(shots)
        self._connections = connections
        self._rate = rate
        self._due: deque[float] = deque()
        self._idle: list[_Connection] = []
        self._left = 0
        self._open = 0
        self._deadline = 0.0
        self._stopped = False
        self._over: asyncio.Future[None] | None = None

    async def run(self, *, requests: int = 1 << 62, seconds: float = 1e9) -> Figures:
        """Run until the count or the time is reached, or `stop` is called; all requests are answered by then."""
        loop = asyncio.get_running_loop()
        self._left, began = requests, perf_counter()
        self._deadline, self._over = began + seconds, loop.create_future()
        self._open = self._connections
        pace = asyncio.create_task(self._pace()) if self._rate else None
        await asyncio.gather(*(self._connect() for _ in range(self._connections)))
        await self._over
        self.figures.seconds = perf_counter() - began
        if pace:
            await pace
        return self.figures

    def stop(self) -> None:
        """Send no more requests."""
        self._stopped = True

    def free(self, connection: "_Connection") -> None:
        """Note that a connection can send."""
        if self._is_over():
            connection.close()
        elif self._rate is None:
            self._fire(connection, perf_counter())
        elif self._due:
            self._fire(connection, self._due.popleft())
        else:
            self._idle.append(connection)

    def answered(self, shot: Shot, began: float, reply: Reply) -> None:
        """Count an answer."""
        self.figures.latencies.append(perf_counter() - began)
        if wrong := shot.check(reply):
            self.figures.wrong[wrong] += 1

    def lost(self, connection: "_Connection", *, asked: bool) -> None:
        """Replace a closed connection while there is more to send."""
        if asked:
            self.figures.wrong["connection closed"] += 1
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._is_over():
            self._again = asyncio.ensure_future(self._connect())
            return
        self._open -= 1
        if not self._open and self._over and not self._over.done():
            self._over.set_result(None)

    def _is_over(self) -> bool:
        return self._stopped or self._left <= 0 or perf_counter() >= self._deadline

    def _fire(self, connection: "_Connection", began: float) -> None:
        self._left -= 1
        connection.fire(next(self._shots), began)

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self._port)

    async def _pace(self) -> None:
        began, count = perf_counter(), 0
        while not self._is_over():
            await asyncio.sleep(TICK)
            most = int((perf_counter() - began) * (self._rate or 0))
            self._due.extend(began + number / (self._rate or 1) for number in range(count, most))
            count = max(count, most)
            while self._due and self._idle and not self._is_over():
                self._fire(self._idle.pop(), self._due.popleft())
        for connection in list(self._idle):
            connection.close()


class _Connection(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._received = bytearray()
        self._asked: tuple[Shot, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._traffic.free(self)

    def fire(self, shot: Shot, began: float) -> None:
        self._asked = (shot, began)
        self._transport.write(shot.request)  # type: ignore[attr-defined]  # a transport of TCP

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        end = received.find(_END)
        if end < 0:
            return
        found = _LENGTH.search(received, 0, end + 2)
        size = end + len(_END) + (int(found[1]) if found else 0)
        if len(received) < size or self._asked is None:
            return
        reply = Reply(int(received[9:12]), bytes(received[:end]), bytes(received[end + len(_END) : size]))
        received.clear()
        (shot, began), self._asked = self._asked, None
        self._traffic.answered(shot, began, reply)
        self._traffic.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._traffic.lost(self, asked=self._asked is not None)
