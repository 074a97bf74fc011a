"""The service's branch of the error tree, and the one path from an exception to an HTTP answer.

LookalikeError
└── RequestError          422  a field of the request is not what it must be
    ├── MalformedError    400  the body is not what its content type says
    ├── UnauthorizedError 401  no key, or a wrong one
    ├── ForbiddenError    403  a key whose scope does not reach
    ├── SlowBodyError     408  the body did not come in time
    ├── TooLargeError     413  more bytes or rows than a call may have
    ├── MediaError        415  a content type that is not understood
    ├── RefusedError      409  the champion cannot take the place of the version that serves
    ├── BusyError         429  as many rows wait as may; come again
    ├── DisconnectedError         499  the client left before the work was begun
    ├── NotReadyError     503  the version does not answers its canary query
    ├── FullError         503  the request bodies in memory have as many bytes as they may; retry later
    └── DeadlineError     504  it took longer than a call may

Of the index floor's, QueryError is 422, UnknownItemError 404 and LogError 503. Every error leaves as
application/problem+json (RFC 9457), of one shape.
"""

import http
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from lookalike.index.errors import LogError, QueryError, UnknownItemError
from lookalike.service.observability.logs import log_failure
from lookalike.training.errors import LookalikeError

__all__ = [
    "BusyError",
    "DeadlineError",
    "DisconnectedError",
    "ForbiddenError",
    "FullError",
    "MalformedError",
    "MediaError",
    "NotReadyError",
    "RefusedError",
    "RequestError",
    "SlowBodyError",
    "TooLargeError",
    "UnauthorizedError",
    "answer_error",
    "install_handlers",
    "problem",
    "truncate_repr",
]

PROBLEM = "application/problem+json"


class RequestError(LookalikeError):
    """A field of the request is not what it must be."""

    status = 422


class MalformedError(RequestError):
    """The body is not what its content type says."""

    status = 400


class UnauthorizedError(RequestError):
    """No key, or a wrong one."""

    status = 401


class ForbiddenError(RequestError):
    """A key whose scope does not reach."""

    status = 403


class SlowBodyError(RequestError):
    """The body did not come in time."""

    status = 408


class TooLargeError(RequestError):
    """More bytes or rows than a call may have."""

    status = 413


class MediaError(RequestError):
    """A content type that is not understood."""

    status = 415


class NotReadyError(RequestError):
    """The version does not answers its canary query."""

    status = 503


class FullError(RequestError):
    """The request bodies in memory have as many bytes as they may."""

    status = 503


class BusyError(RequestError):
    """As many rows wait as may."""

    status = 429


class DisconnectedError(RequestError):
    """The client left before the work was begun: the answer is for the log alone."""

    status = 499


class RefusedError(RequestError):
    """The champion cannot take the place of the version that serves."""

    status = 409


class DeadlineError(RequestError):
    """It took longer than a call may."""

    status = 504


_TITLES = {499: "Client Closed Request"}
"""No status of HTTP's own; nginx's word."""
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    413: {"Connection": "close"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


def problem(status: int, detail: str, *, field: str = "", expected: str = "", found: str = "") -> JSONResponse:
    """An RFC 9457 document; all members are always there."""
    body = {
        "type": "about:blank",
        "title": _TITLES.get(status) or http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "field": field,
        "expected": expected,
        "found": found,
    }
    return JSONResponse(body, status, _HEADERS.get(status), PROBLEM)


def truncate_repr(value: Any) -> str:
    """A value that a client sent, as a short text; the value may be large and deep."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    text = orjson.dumps(value[:41] if isinstance(value, str) else value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"


def install_handlers(app: FastAPI) -> None:
    """Send every exception down the one path."""
    app.add_exception_handler(LookalikeError, answer_error)
    app.add_exception_handler(HTTPException, answer_error)
    app.add_exception_handler(Exception, answer_error)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended with `error`; one that nobody foresaw is logged."""
    if isinstance(error, LogError):  # its words name a file of ours
        log_failure(request.scope, error)
        said = {
            "field": "items",
            "expected": "a change log that can be written and read",
            "found": "one that cannot be",
        }
        return problem(503, "The change log cannot be written or read now; the service's log says more.", **said)
    if isinstance(error, LookalikeError):
        kinds = {QueryError: 422, UnknownItemError: 404}
        status = error.status if isinstance(error, RequestError) else kinds.get(type(error), 500)
        if status == 500:  # of files that are ours
            return _failed(request, error)
        answer = problem(status, str(error), field=error.field, expected=error.expected, found=error.found)
        if isinstance(error, FullError):  # the rest of its body is not read
            answer.headers["Connection"] = "close"
        return answer
    if isinstance(error, HTTPException):
        found = f"{request.method} {request.url.path[:200]}"
        expected = "a path and a method of this service"
        answer = problem(error.status_code, str(error.detail), field="path", expected=expected, found=found)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            answer.headers["Allow"] = _methods(request)
        return answer
    return _failed(request, error)


def _methods(request: Request) -> str:
    """Those that a path has; the framework names only those of the first route that it has."""
    each = iter_route_contexts(request.app.routes)
    here = [one for one in each if one.path and compile_path(one.path)[0].match(request.scope["path"])]
    methods = {method for one in here for method in one.methods or ()}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _failed(request: Request, error: Exception) -> JSONResponse:
    log_failure(request.scope, error)
    return problem(500, "The service failed on this request; its log says more.")
