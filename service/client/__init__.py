"""A typed client of the service: `Client` and `AsyncClient` of `pip install 'lookalike[client]'`.

Imports numpy, httpx and orjson, and no other room: the client installs and starts without the service.
"""

from lookalike.service.client.clients import AsyncClient, Client
from lookalike.service.client.errors import (
    BadGateway,
    BadRequest,
    Conflict,
    ConnectionFailed,
    ContentTooLarge,
    DeadlineExceeded,
    Forbidden,
    LookalikeError,
    MalformedResponse,
    NotFound,
    NotReady,
    Problem,
    ProblemError,
    RateLimited,
    RequestTimeout,
    ServerError,
    TimedOut,
    Unauthorized,
    Unprocessable,
    UnsupportedMediaType,
    VersionChangedError,
)
from lookalike.service.client.explanation import ExplainedPart, Explanation
from lookalike.service.client.item_responses import ClippedValue, Item, ItemSummary, WriteResponse
from lookalike.service.client.responses import (
    EmbedResponse,
    Hit,
    QueryResult,
    ReadyResponse,
    SearchResponse,
    WindowPlace,
)
from lookalike.service.client.retrying import Retries

__all__ = [
    "AsyncClient", "BadGateway", "BadRequest", "Client", "ClippedValue", "Conflict", "ConnectionFailed",
    "ContentTooLarge", "DeadlineExceeded", "EmbedResponse", "ExplainedPart", "Explanation", "Forbidden", "Hit", "Item",
    "ItemSummary", "LookalikeError", "MalformedResponse", "NotFound", "NotReady", "Problem", "ProblemError",
    "QueryResult", "RateLimited", "ReadyResponse", "RequestTimeout", "Retries", "SearchResponse", "ServerError",
    "TimedOut", "Unauthorized", "Unprocessable", "UnsupportedMediaType", "VersionChangedError", "WindowPlace",
    "WriteResponse",
]  # fmt: skip
