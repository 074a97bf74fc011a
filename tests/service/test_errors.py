import logging

import httpx
import pytest
from fastapi import FastAPI

from lookalike.index.errors import LogError, QueryError, StoreError, UnknownItemError
from lookalike.service import errors
from lookalike.service.errors import RequestError, install_handlers
from lookalike.training.errors import ArtifactError, LookalikeError
from tests.service.helpers import problem

pytestmark = pytest.mark.anyio

STATUSES: dict[type[LookalikeError], int] = {
    errors.RequestError: 422,
    errors.MalformedError: 400,
    errors.UnauthorizedError: 401,
    errors.ForbiddenError: 403,
    errors.FullError: 503,
    errors.SlowBodyError: 408,
    errors.TooLargeError: 413,
    errors.MediaError: 415,
    errors.BusyError: 429,
    errors.DisconnectedError: 499,
    errors.NotReadyError: 503,
    errors.RefusedError: 409,
    errors.DeadlineError: 504,
    QueryError: 422,
    UnknownItemError: 404,
}


async def answer_to(error: Exception) -> httpx.Response:
    """The answer of an app whose route raises `error`."""
    app = FastAPI()
    install_handlers(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get("/")


@pytest.mark.parametrize("kind", STATUSES)
async def test_every_error_has_its_status_and_names_field_expected_and_found(kind: type[LookalikeError]) -> None:
    members = problem(await answer_to(kind("limit", expected="one", found="two")), STATUSES[kind])
    assert (members["type"], members["field"], members["expected"], members["found"]) == (
        "about:blank",
        "limit",
        "one",
        "two",
    )
    assert members["detail"] == "limit: expected one, found two."


@pytest.mark.parametrize("kind", [StoreError, ArtifactError])
async def test_logs_errors_of_the_services_files_without_telling_the_client(kind: type[LookalikeError]) -> None:
    answer = await answer_to(kind("/srv/store/index.faiss", expected="one", found="two"))
    assert problem(answer, 500)["detail"] == "The service failed on this request; see its log."
    assert "index.faiss" not in answer.text


async def test_answers_503_without_the_path_if_the_change_log_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "lookalike.service"):
        answer = await answer_to(LogError("/srv/store/items.db", expected="one", found="disk full"))
    assert problem(answer, 503)["field"] == "items"
    assert answer.headers["retry-after"] == "1"
    assert "items.db" not in answer.text
    assert "LogError" in caplog.text


def test_the_table_has_every_request_error() -> None:
    assert {RequestError, *RequestError.__subclasses__()} <= set(STATUSES)


async def test_logs_an_unhandled_error_without_telling_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "lookalike.service"):
        answer = await answer_to(RuntimeError("the secret"))
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "RuntimeError: the secret" in caplog.text


@pytest.mark.parametrize(
    ("status", "header"), [(401, "www-authenticate"), (408, "connection"), (413, "connection"), (422, None)]
)
def test_statuses_carry_their_headers(status: int, header: str | None) -> None:
    own = {"www-authenticate", "connection"} & set(errors.problem(status, "").headers)
    assert own == ({header} if header else set())


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "3"),
        (None, "null"),
        (True, "true"),
        ("a", '"a"'),
        ("x" * 10**6, '"' + "x" * 39 + "…"),
        ([[[1]]] * 1_000, "a list of 1000"),
        ({"a": 1}, "an object"),
    ],
)
def test_truncates_a_clients_value(value: object, told: str) -> None:
    assert errors.truncate_repr(value) == told
