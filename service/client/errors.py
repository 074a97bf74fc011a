"""The errors that a call can raise, as one tree.

LookalikeError
├── ConnectionFailed              no response: nothing listens, or the connection broke
│   └── TimedOut                  no response in time
├── MalformedResponse             a response that the service never sends; no part of it is returned
├── VersionChangedError           different versions answered the parts of one call, in every round
└── ProblemError                  the service refused the call, and explained why (RFC 9457)
    ├── BadRequest            400 the body does not match its content type
    ├── Unauthorized          401 the API key is missing or wrong
    ├── Forbidden             403 the API key does not permit this call
    ├── NotFound              404 no item has this id, or no route has this path
    ├── RequestTimeout        408 the request body did not arrive in time
    ├── Conflict              409 a conflicting operation is running; retry later
    ├── ContentTooLarge       413 more rows, hits or bytes than one call may have
    ├── UnsupportedMediaType  415 the content type is not supported
    ├── Unprocessable         422 a field has a wrong value
    ├── RateLimited           429 too many calls
    ├── ServerError           500 the service failed; its log has the details
    ├── BadGateway            502 a proxy got no response from the service
    ├── NotReady              503 the service cannot answer now
    └── DeadlineExceeded      504 the service could not answer in time

A mistake that is found before anything is sent is a ValueError.
"""

# ruff: noqa: N818 - named after the HTTP statuses

from dataclasses import dataclass

__all__ = [
    "BadGateway", "BadRequest", "Conflict", "ConnectionFailed", "ContentTooLarge", "DeadlineExceeded", "Forbidden",
    "LookalikeError", "MalformedResponse", "NotFound", "NotReady", "Problem", "ProblemError", "RateLimited",
    "RequestTimeout", "ServerError", "TimedOut", "Unauthorized", "Unprocessable", "UnsupportedMediaType",
    "VersionChangedError", "problem_error",
]  # fmt: skip


class LookalikeError(Exception):
    """The base of all errors that a call can raise."""


class ConnectionFailed(LookalikeError):
    """No response: nothing listens, or the connection broke. Look for `request_id` in the service's log."""

    def __init__(self, detail: str, request_id: str) -> None:
        self.detail, self.request_id = detail, request_id
        super().__init__(detail, request_id)

    def __str__(self) -> str:
        return f"{self.detail} (request {self.request_id})"


class TimedOut(ConnectionFailed):
    """No response in time."""


class MalformedResponse(LookalikeError):
    """A response that the service never sends: it was damaged on the way, or comes from a different server."""

    def __init__(self, field: str, expected: str, found: str, request_id: str) -> None:
        self.field, self.expected, self.found, self.request_id = field, expected, found, request_id
        super().__init__(field, expected, found, request_id)

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, found {self.found} (request {self.request_id})"


class VersionChangedError(LookalikeError):
    """Different versions answered the parts of one call, in every round."""

    def __init__(self, versions: tuple[int, ...]) -> None:
        self.versions = versions
        super().__init__(versions)

    def __str__(self) -> str:
        return (
            f"parts of one call were answered by the versions {', '.join(map(str, self.versions))}, even after they "
            "were sent again. Retry when the promotion has finished, or send fewer rows."
        )


@dataclass(frozen=True)
class Problem:
    """The members of an RFC 9457 document.

    Attributes:
        field: the wrong field, with its row if there are several; "" if no field is wrong.
        retry_after: seconds after which the service asks for a retry; None if it does not.
    """

    type: str
    title: str
    status: int
    detail: str
    field: str = ""
    expected: str = ""
    found: str = ""
    retry_after: float | None = None


class ProblemError(LookalikeError):
    """The service refused the call, and explained why (RFC 9457)."""

    def __init__(self, problem: Problem, request_id: str) -> None:
        self.problem, self.request_id, self.retry_after = problem, request_id, problem.retry_after
        self.type, self.title, self.status, self.detail = problem.type, problem.title, problem.status, problem.detail
        self.field, self.expected, self.found = problem.field, problem.expected, problem.found
        super().__init__(problem, request_id)

    def __str__(self) -> str:
        return f"{self.status} {self.title}: {self.detail} (request {self.request_id})"


class BadRequest(ProblemError):
    """400: the body does not match its content type."""


class Unauthorized(ProblemError):
    """401: the API key is missing or wrong."""


class Forbidden(ProblemError):
    """403: the API key does not permit this call."""


class NotFound(ProblemError):
    """404: no item has this id, or no route has this path."""


class RequestTimeout(ProblemError):
    """408: the request body did not arrive in time."""


class Conflict(ProblemError):
    """409: a conflicting operation is running; retry later."""


class ContentTooLarge(ProblemError):
    """413: more rows, hits or bytes than one call may have: lower the client's `max_rows`, or the limit."""


class UnsupportedMediaType(ProblemError):
    """415: the content type is not supported."""


class Unprocessable(ProblemError):
    """422: a field has a wrong value."""


class RateLimited(ProblemError):
    """429: too many calls."""


class ServerError(ProblemError):
    """500: the service failed on this request; its log has the details."""


class BadGateway(ProblemError):
    """502: a proxy got no response from the service."""


class NotReady(ProblemError):
    """503: the service cannot answer now."""


class DeadlineExceeded(ProblemError):
    """504: the service could not answer in time."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: RequestTimeout,
    409: Conflict,
    413: ContentTooLarge,
    415: UnsupportedMediaType,
    422: Unprocessable,
    429: RateLimited,
    500: ServerError,
    502: BadGateway,
    503: NotReady,
    504: DeadlineExceeded,
}


def problem_error(problem: Problem, request_id: str) -> ProblemError:
    """Return the error class of the status; ProblemError for a status without a class."""
    return _BY_STATUS.get(problem.status, ProblemError)(problem, request_id)
