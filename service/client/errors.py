"""What a call can end in, as one tree.

LookalikeError
├── ConnectionFailed          no answer: nobody listens, or the connection broke
│   └── TimedOut              no answer in time
├── MalformedAnswer           an answer that the service would not give; nothing of it is returned
├── VersionChangedError       the parts of one call were answered by several versions, again and again
└── ProblemError              the service said no; it says why, as RFC 9457
    ├── BadRequest        400 the body is not what its content type says
    ├── Unauthorized      401 no key, or a wrong one
    ├── Forbidden         403 this key may not
    ├── NotFound          404 no item has this id, or no route this path
    ├── SlowBody          408 the body did not come in time
    ├── Conflict          409 not now, for something else is going on
    ├── TooLarge          413 more rows, hits or bytes than a call may have
    ├── UnsupportedMedia  415 a content type that is not understood
    ├── Unprocessable     422 a field is not what it must be
    ├── RateLimited       429 too many calls
    ├── ServerFailed      500 its log says more
    ├── BadGateway        502 a proxy got no answer from the service
    ├── NotReady          503 it cannot answer now
    └── DeadlineExceeded  504 it could not answer in time

A mistake that shows before anything is sent is a ValueError.
"""

# ruff: noqa: N818 - named for what happened, as the statuses are

from dataclasses import dataclass

__all__ = [
    "BadGateway",
    "BadRequest",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Forbidden",
    "LookalikeError",
    "MalformedAnswer",
    "NotFound",
    "NotReady",
    "Problem",
    "ProblemError",
    "RateLimited",
    "ServerFailed",
    "SlowBody",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unprocessable",
    "UnsupportedMedia",
    "VersionChangedError",
    "problem_error",
]


class LookalikeError(Exception):
    """A call did not end in an answer."""


class ConnectionFailed(LookalikeError):
    """No answer. `detail` says what happened; the request's id is what to look for in the service's log."""

    def __init__(self, detail: str, request_id: str) -> None:
        self.detail = detail
        self.request_id = request_id
        super().__init__(detail, request_id)

    def __str__(self) -> str:
        return f"{self.detail} (request {self.request_id})"


class TimedOut(ConnectionFailed):
    """No answer in time."""


class MalformedAnswer(LookalikeError):
    """An answer that the service would not give: something between damaged it, or is another server."""

    def __init__(self, field: str, expected: str, found: str, request_id: str) -> None:
        self.field = field
        self.expected = expected
        self.found = found
        self.request_id = request_id
        super().__init__(field, expected, found, request_id)

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, found {self.found} (request {self.request_id})"


class VersionChangedError(LookalikeError):
    """The parts of one call were answered by these versions, however often they were asked."""

    def __init__(self, versions: tuple[int, ...]) -> None:
        self.versions = versions
        super().__init__(versions)

    def __str__(self) -> str:
        each = ", ".join(map(str, self.versions))
        return (
            f"parts of one call were answered by the versions {each}, and again by several when they were asked again. "
            "Call again once one version serves, or send fewer rows."
        )


@dataclass(frozen=True)
class Problem:
    """The members of an RFC 9457 document.

    Attributes:
        field: what it is about, with the row where it is one of several; "" where it is none.
        retry_after: seconds after which the service wants to be asked again, where it says so.
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
    """The service said no, and this is why."""

    def __init__(self, problem: Problem, request_id: str) -> None:
        self.problem = problem
        self.request_id = request_id
        self.type = problem.type
        self.title = problem.title
        self.status = problem.status
        self.detail = problem.detail
        self.field = problem.field
        self.expected = problem.expected
        self.found = problem.found
        self.retry_after = problem.retry_after
        super().__init__(problem, request_id)

    def __str__(self) -> str:
        return f"{self.status} {self.title}: {self.detail} (request {self.request_id})"


class BadRequest(ProblemError):
    """The body is not what its content type says."""


class Unauthorized(ProblemError):
    """No key, or a wrong one."""


class Forbidden(ProblemError):
    """This key may not."""


class NotFound(ProblemError):
    """No item has this id, or no route this path."""


class SlowBody(ProblemError):
    """The body did not come in time."""


class Conflict(ProblemError):
    """Not now, for something else is going on."""


class TooLarge(ProblemError):
    """More rows, hits or bytes than a call may have: lower the client's `max_rows`, or the limit."""


class UnsupportedMedia(ProblemError):
    """A content type that is not understood."""


class Unprocessable(ProblemError):
    """A field is not what it must be."""


class RateLimited(ProblemError):
    """Too many calls."""


class ServerFailed(ProblemError):
    """The service failed on this request; its log says more."""


class BadGateway(ProblemError):
    """A proxy got no answer from the service."""


class NotReady(ProblemError):
    """The service cannot answer now."""


class DeadlineExceeded(ProblemError):
    """The service could not answer in time."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: SlowBody,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMedia,
    422: Unprocessable,
    429: RateLimited,
    500: ServerFailed,
    502: BadGateway,
    503: NotReady,
    504: DeadlineExceeded,
}


def problem_error(problem: Problem, request_id: str) -> ProblemError:
    """The error of its status; of a status without one, ProblemError itself."""
    return _BY_STATUS.get(problem.status, ProblemError)(problem, request_id)
