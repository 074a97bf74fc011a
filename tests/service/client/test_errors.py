import inspect
import pickle

import pytest

from lookalike.service.client import errors
from lookalike.service.client.errors import (
    ConnectionFailed,
    LookalikeError,
    MalformedResponse,
    Problem,
    ProblemError,
    RateLimited,
    TimedOut,
    VersionChangedError,
    problem_error,
)

KINDS = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
PROBLEM = Problem("about:blank", "Too Many Requests", 429, "too many calls.", "key", "10 a second", "11", 2.0)


def test_every_error_is_a_lookalike_error() -> None:
    assert all(issubclass(kind, LookalikeError) for kind in KINDS.values())


@pytest.mark.parametrize("kind", ProblemError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_each_problem_error_has_the_status_in_its_docstring(kind: type[ProblemError]) -> None:
    status = (kind.__doc__ or "")[:3]
    assert type(problem_error(Problem("about:blank", "", int(status), ""), "r")) is kind


def test_a_status_without_a_class_is_a_problem_error() -> None:
    assert type(problem_error(Problem("about:blank", "I'm a Teapot", 418, "no coffee"), "r")) is ProblemError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionFailed("nobody listens", "r1"), "nobody listens (request r1)"),
        (TimedOut("too late", "r1"), "too late (request r1)"),
        (MalformedResponse("body", "JSON", "HTML", "r1"), "body: expected JSON, found HTML (request r1)"),
        (problem_error(PROBLEM, "r1"), "429 Too Many Requests: too many calls. (request r1)"),
        (VersionChangedError((2, 3)), "parts of one call were answered by the versions 2, 3, even after"),
    ],
)
def test_errors_keep_their_message_when_pickled(error: LookalikeError, text: str) -> None:
    assert str(error).startswith(text)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_problem_error_exposes_the_members_of_the_problem() -> None:
    error = problem_error(PROBLEM, "r1")
    assert isinstance(error, RateLimited)
    assert (error.type, error.title, error.status) == ("about:blank", "Too Many Requests", 429)
    assert (error.field, error.expected, error.found) == ("key", "10 a second", "11")
    assert (error.detail, error.retry_after, error.request_id) == ("too many calls.", 2.0, "r1")
