"""A typed client of the service: `Client` and `AsyncClient` of `pip install 'lookalike[client]'`.

Imports numpy, httpx and orjson, and no other room: it installs and starts without the service.
"""

from lookalike.service.client.answers import EmbedResponse, Hit, QueryResult, ReadyResponse, SearchResponse
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
from lookalike.service.client.item_answers import ClippedValue, Item, ItemSummary, WriteResponse
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
    "EmbedResponse",
    "Forbidden",
    "Hit",
    "Item",
    "ItemSummary",
    "LookalikeError",
    "MalformedAnswer",
    "NotFound",
    "NotReady",
    "Problem",
    "ProblemError",
    "QueryResult",
    "RateLimited",
    "ReadyResponse",
    "Retries",
    "SearchResponse",
    "ServerFailed",
    "SlowBody",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unprocessable",
    "UnsupportedMedia",
    "VersionChangedError",
    "WriteResponse",
]
