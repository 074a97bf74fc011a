"""The messages between an exchange, which does no input or output, and the client that runs it.

An exchange is a generator: it yields a `Send`, receives a `Reply`, and returns its result. `Client` and `AsyncClient`
run the same exchanges.
"""

import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lookalike.service.client.errors import ConnectionFailed

__all__ = ["Call", "Exchange", "Failure", "Reply", "Response", "Send"]

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One HTTP request. Its `repr` leaves out the user's data, so that they are never logged.

    Attributes:
        retryable: whether the request may be sent again, with the same `id`.
        item: the id of an item, appended to the path; `suffix` follows the id.
    """

    method: str
    path: str
    retryable: bool = True
    item: str | None = field(default=None, repr=False)
    suffix: str = ""
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Send:
    """Wait `wait` seconds, then send the call; its whole response must arrive within `timeout` seconds."""

    call: Call
    wait: float
    timeout: float


@dataclass(frozen=True)
class Response:
    """A response of any status; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    request_id: str

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Failure:
    """No complete response, and why; `retryable` if no part of a response had arrived."""

    error: ConnectionFailed
    retryable: bool


Reply = Response | Failure
Exchange = Generator[Send, Reply, T]
