"""What passes between a conversation, which does no input or output, and the driver that does it.

A conversation is a generator: it yields what to send, is given what came of it, and returns its result. The client
and the asynchronous client drive the same ones.
"""

import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lookalike.service.client.errors import ConnectionFailed

__all__ = ["Answer", "Call", "Exchange", "Failure", "Reply", "Send"]

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One request. What it holds of the user's is in no `repr`, so that it comes into no log.

    Attributes:
        again: whether it may be sent again; the id stays the same then.
        item: an item's id, which follows the path.
    """

    method: str
    path: str
    again: bool = True
    item: str | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Send:
    """Wait so many seconds, then send the call, and give its whole answer so many seconds."""

    call: Call
    wait: float
    seconds: float


@dataclass(frozen=True)
class Answer:
    """An answer of any status; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    request_id: str

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Failure:
    """No answer, and why; `again` where nothing had been answered yet."""

    error: ConnectionFailed
    again: bool


Reply = Answer | Failure
Exchange = Generator[Send, Reply, T]
