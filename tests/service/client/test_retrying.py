import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from lookalike.index.versions.version import Version
from lookalike.service.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    LookalikeError,
    MalformedResponse,
    NotReady,
    ProblemError,
    RateLimited,
    Retries,
    TimedOut,
)
from lookalike.service.client.errors import problem_error
from lookalike.service.client.messages import Call, Failure, Reply, Response, Send
from lookalike.service.client.retrying import request
from tests.service.helpers import NPY, pixels_of, to_npy
from tests.service.scripted import DROP, Line, nobody, scripted


@dataclass
class Clock:
    """A clock that advances only when something sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def retries(clock: Clock) -> Retries:
    return Retries(
        max_attempts=4, initial_wait=1.0, max_wait=5.0, deadline_seconds=20.0, random=lambda: 0.5, clock=clock
    )


@pytest.fixture
def right(version: Version) -> Line:
    body = to_npy(version.embed(pixels_of("5")))
    return Line(200, {"Content-Type": NPY, "X-Lookalike-Version": "1"}, body)


def client_of(url: str, retries: Retries, clock: Clock, timeout: float = 30.0) -> Client:
    return Client(url, retries=retries, sleep=clock.sleep, timeout=timeout)


@pytest.mark.parametrize("line", [Line(429), Line(502), Line(503), Line(504), DROP])
def test_retries_temporary_failures(line: Line, right: Line, retries: Retries, clock: Clock, version: Version) -> None:
    with scripted(line, line, right) as script, client_of(script.url, retries, clock) as client:
        read = client.embed(pixels_of("5"))
    np.testing.assert_array_equal(read.embeddings, version.embed(pixels_of("5")))
    assert clock.slept == [0.5, 1.0]  # half of 1 and of 2
    assert len({headers["x-request-id"] for headers in script.headers}) == 1
    assert len(set(script.bodies)) == 1


@pytest.mark.anyio
async def test_the_async_client_retries_too(right: Line, retries: Retries, clock: Clock) -> None:
    with scripted(Line(503), DROP, right) as script:
        async with AsyncClient(script.url, retries=retries, sleep=clock.asleep) as client:
            assert (await client.embed(pixels_of("5"))).version == 1
    assert clock.slept == [0.5, 1.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 415, 422, 500, 302])
def test_does_not_retry_permanent_failures(status: int, retries: Retries, clock: Clock) -> None:
    with (
        scripted(Line(status)) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises(LookalikeError) as failed,
    ):
        client.embed(pixels_of("5"))
    assert not isinstance(failed.value, ProblemError) or failed.value.status == status
    assert clock.slept == []


def test_raises_the_error_of_the_last_attempt(retries: Retries, clock: Clock) -> None:
    lines = [Line(503), Line(503), Line(503), Line(429)]
    with scripted(*lines) as script, client_of(script.url, retries, clock) as client, pytest.raises(RateLimited):
        client.embed(pixels_of("5"))
    assert clock.slept == [0.5, 1.0, 2.0]


def test_retries_a_refused_connection_and_then_raises(retries: Retries, clock: Clock) -> None:
    with client_of(nobody(), retries, clock) as client, pytest.raises(ConnectionFailed, match="POST /embed") as failed:
        client.embed(pixels_of("5"))
    assert len(clock.slept) == 3
    assert isinstance(failed.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(
    ("headers", "slept"), [({"Retry-After": "3"}, 3.0), ({"Retry-After": "0"}, 0.5), ({"Retry-After": "99999"}, 5.0)]
)
def test_honors_retry_after_up_to_max_wait(
    headers: dict[str, str], slept: float, right: Line, retries: Retries, clock: Clock
) -> None:
    with scripted(Line(429, headers), right) as script, client_of(script.url, retries, clock) as client:
        client.embed(pixels_of("5"))
    assert clock.slept == [slept]


def test_does_not_retry_a_broken_body(right: Line, retries: Retries, clock: Clock) -> None:
    broken = Line(200, right.headers, right.body[:-4], claimed=len(right.body))
    with (
        scripted(broken) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises(ConnectionFailed, match="RemoteProtocolError"),
    ):
        client.embed(pixels_of("5"))
    short = Line(200, right.headers, right.body[:-4])
    with scripted(short) as script, client_of(script.url, retries, clock) as client, pytest.raises(MalformedResponse):
        client.embed(pixels_of("5"))
    assert clock.slept == []


@pytest.mark.parametrize("call", ["reload", "ready", "live"])
@pytest.mark.parametrize("line", [Line(503, {"Retry-After": "1"}), DROP])
def test_sends_reload_and_health_checks_once(call: str, line: Line, retries: Retries, clock: Clock) -> None:
    with (
        scripted(line) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises((NotReady, ConnectionFailed)),
    ):
        getattr(client, call)()
    assert clock.slept == []


def test_times_out_on_a_response_that_arrives_too_slowly(right: Line, retries: Retries, clock: Clock) -> None:
    def ticking() -> Iterator[float]:
        yield from (0.0, 0.0, 0.0)  # the start of the call, of the attempt and of its timeout; then a part is late
        while True:
            yield 7.0

    late = Retries(max_attempts=1, clock=ticking().__next__)
    with scripted(right) as script, client_of(script.url, late, clock, timeout=5.0) as client, pytest.raises(TimedOut):
        client.embed(pixels_of("5"))


def response(status: int = 503, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", "r1")


def sends_of(replies: list[Reply], retries: Retries, clock: Clock, timeout: float = 8.0) -> list[Send]:
    """The attempts that a call sends for these replies; each attempt takes 3 seconds."""
    exchange, sent = request(Call("GET", "version"), retries, timeout), []
    sent.append(next(exchange))
    for reply in replies:
        clock.now += sent[-1].wait + 3.0
        sent.append(exchange.send(reply))
    return sent


def test_each_attempt_gets_the_timeout_or_the_remaining_time(retries: Retries, clock: Clock) -> None:
    sent = sends_of([response(), response(), response(retry_after="5")], retries, clock)
    assert [send.wait for send in sent] == [0.0, 0.5, 1.0, 5.0]
    assert [send.timeout for send in sent] == [8.0, 8.0, 8.0, 20 - (3 + 3.5 + 4 + 5)]


def test_does_not_wait_beyond_the_deadline(retries: Retries, clock: Clock) -> None:
    clock.now = 100.0  # a clock may begin anywhere
    replies: list[Reply] = [response(retry_after="5")] * 3  # at 3, 11 and 19 seconds of 20
    with pytest.raises(NotReady):
        sends_of(replies, retries, clock)
    assert clock.now == 119.0


def test_retries_only_failures_without_a_response(retries: Retries, clock: Clock) -> None:
    failed = ConnectionFailed("broken", "r1")
    assert len(sends_of([Failure(failed, retryable=True)], retries, clock)) == 2
    with pytest.raises(ConnectionFailed):
        sends_of([Failure(failed, retryable=False)], retries, clock)


@pytest.mark.parametrize("random", [0.0, 0.999])
def test_waits_double_up_to_max_wait_with_full_jitter(random: float) -> None:
    retries = Retries(initial_wait=0.1, max_wait=1.0, random=lambda: random)
    waits = [retries.wait(attempt, None) for attempt in (1, 2, 3, 4, 5, 5_000)]
    np.testing.assert_allclose(waits, np.array([0.1, 0.2, 0.4, 0.8, 1.0, 1.0]) * random)


@pytest.mark.parametrize(
    "given", [{"max_attempts": 0}, {"deadline_seconds": 0}, {"initial_wait": -1}, {"max_wait": -1}]
)
def test_refuses_retries_that_send_nothing(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected at least one attempt"):
        Retries(**given)  # type: ignore[arg-type]


def test_logs_retries_without_user_data(retries: Retries, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "lookalike")
    lines = [Line(503), DROP, Line(422)]
    with scripted(*lines) as script, client_of(script.url, retries, clock) as client, pytest.raises(ProblemError):
        client.search(inputs=np.full((1, 2), 31_337), filter={"field": "secret", "equal": 1})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("lookalike")]
    named = script.headers[0]["x-request-id"]
    assert ours == [
        f"POST /search: 503, retrying in 0.50 s (request {named})",
        f"POST /search: ConnectionFailed, retrying in 1.00 s (request {named})",
    ]
    assert "secret" in script.paths[0]


def test_a_problem_keeps_the_service_s_request_id(retries: Retries, clock: Clock) -> None:
    with (
        scripted(Line(422, {"X-Request-ID": "theirs"})) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises(ProblemError) as failed,
    ):
        client.version()
    assert failed.value.request_id == "theirs"
    assert type(failed.value) is type(problem_error(failed.value.problem, "theirs"))
