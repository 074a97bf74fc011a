"""The service's branch of the error tree, and the one path from an exception to an HTTP answer.

LookalikeError
└── RequestError          422  a field of the request is wrong
    ├── MalformedError    400  the body does not match its content type
    ├── UnauthorizedError 401  no key, or a wrong key
    ├── ForbiddenError    403  the key's scope does not allow the call
    ├── SlowBodyError     408  the body did not arrive in time
    ├── RefusedError      409  the champion cannot replace the serving version
    ├── TooLargeError     413  more bytes or rows than a call may have
    ├── MediaError        415  an unsupported content type
    ├── BusyError         429  too many rows wait; retry later
    ├── DisconnectedError 499  the client disconnected before the work began
    ├── NotReadyError     503  the service is not ready
    ├── FullError         503  the request bodies in memory have too many bytes; retry later
    └── DeadlineError     504  the call took too long

The index's QueryError is 422, UnknownItemError 404 and LogError 503. Every error leaves as
application/problem+json (RFC 9457), with the same members.
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
    status = 422


class MalformedError(RequestError):
    status = 400


class UnauthorizedError(RequestError):
    status = 401


class ForbiddenError(RequestError):
    status = 403


class SlowBodyError(RequestError):
    status = 408


class TooLargeError(RequestError):
    status = 413


class MediaError(RequestError):
    status = 415


class NotReadyError(RequestError):
    status = 503


class FullError(RequestError):
    status = 503


class BusyError(RequestError):
    status = 429


class DisconnectedError(RequestError):
    status = 499  # only the log shows this answer


class RefusedError(RequestError):
    status = 409


class DeadlineError(RequestError):
    status = 504


_TITLES = {499: "Client Closed Request"}
"""HTTP does not define this status; nginx does."""
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    413: {"Connection": "close"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


def problem(status: int, detail: str, *, field: str = "", expected: str = "", found: str = "") -> JSONResponse:
    """An RFC 9457 document; it always has all members."""
    title = _TITLES.get(status) or http.HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body |= {"field": field, "expected": expected, "found": found}
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
    """Answer every exception by `answer_error`."""
    for kind in (LookalikeError, HTTPException, Exception):
        app.add_exception_handler(kind, answer_error)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended with `error`; an unexpected error is logged."""
    if isinstance(error, LogError):  # its text names a file of the service
        log_failure(request.scope, error)
        detail = "The change log cannot be written or read now; see the service's log."
        expected, found = "a change log that can be written and read", "an error of the file system or of SQLite"
        return problem(503, detail, field="items", expected=expected, found=found)
    if isinstance(error, LookalikeError):
        kinds = {QueryError: 422, UnknownItemError: 404}
        status = error.status if isinstance(error, RequestError) else kinds.get(type(error), 500)
        if status == 500:  # its text names a file of the service
            return _failed(request, error)
        answer = problem(status, str(error), field=error.field, expected=error.expected, found=error.found)
        if isinstance(error, FullError):  # the rest of the body is not read
            answer.headers["Connection"] = "close"
        return answer
    if isinstance(error, HTTPException):
        expected, found = "a path and a method of this service", f"{request.method} {request.url.path[:200]}"
        answer = problem(error.status_code, str(error.detail), field="path", expected=expected, found=found)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            answer.headers["Allow"] = _methods(request)
        return answer
    return _failed(request, error)


def _methods(request: Request) -> str:
    """The methods of a path; the framework names only the methods of the path's first route."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path and compile_path(route.path)[0].match(request.scope["path"]):
            methods |= set(route.methods or ())
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _failed(request: Request, error: Exception) -> JSONResponse:
    log_failure(request.scope, error)
    return problem(500, "The service failed on this request; see its log.")
