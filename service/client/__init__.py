"""A typed client of the service, on numpy, httpx and orjson alone: `pip install 'lookalike[client]'`.

with Client("http://127.0.0.1:8000") as client:
    found = client.search(inputs=rows, limit=3)
"""

from lookalike.service.client.answers import Embedded, Found, Hit, Ready, Searched
from lookalike.service.client.clients import AsyncClient, Client
from lookalike.service.client.errors import (
    BadGateway,
    BadRequest,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    Forbidden,
    LookalikeError,
    MalformedAnswer,
    NotFound,
    NotReady,
    Problem,
    ProblemError,
    RateLimited,
    ServerFailed,
    SlowBody,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unprocessable,
    UnsupportedMedia,
    VersionChangedError,
)
from lookalike.service.client.item_answers import ClippedValue, Item, Listed, Written
from lookalike.service.client.retrying import Retries

__all__ = [
    "AsyncClient",
    "BadGateway",
    "BadRequest",
    "Client",
    "ClippedValue",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Embedded",
    "Forbidden",
    "Found",
    "Hit",
    "Item",
    "Listed",
    "LookalikeError",
    "MalformedAnswer",
    "NotFound",
    "NotReady",
    "Problem",
    "ProblemError",
    "RateLimited",
    "Ready",
    "Retries",
    "Searched",
    "ServerFailed",
    "SlowBody",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unprocessable",
    "UnsupportedMedia",
    "VersionChangedError",
    "Written",
]
