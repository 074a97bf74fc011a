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
    MalformedAnswer,
    NotReady,
    ProblemError,
    RateLimited,
    Retries,
    TimedOut,
)
from lookalike.service.client.errors import problem_error
from lookalike.service.client.messages import Answer, Call, Failure, Reply, Send
from lookalike.service.client.retrying import ask
from tests.service.helpers import NPY, pixels_of, to_npy
from tests.service.scripted import DROP, Line, nobody, scripted


@dataclass
class Clock:
    """Seconds that pass only where someone sleeps."""

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
    return Retries(attempts=4, first_wait=1.0, longest_wait=5.0, seconds=20.0, random=lambda: 0.5, clock=clock)


@pytest.fixture
def right(version: Version) -> Line:
    body = to_npy(version.embed(pixels_of("5")))
    return Line(200, {"Content-Type": NPY, "X-Lookalike-Version": "1"}, body)


def client_of(url: str, retries: Retries, clock: Clock, timeout: float = 30.0) -> Client:
    return Client(url, retries=retries, sleep=clock.sleep, timeout=timeout)


@pytest.mark.parametrize("line", [Line(429), Line(502), Line(503), Line(504), DROP])
def test_what_passes_is_asked_again(line: Line, right: Line, retries: Retries, clock: Clock, version: Version) -> None:
    with scripted(line, line, right) as script, client_of(script.url, retries, clock) as client:
        read = client.embed(pixels_of("5"))
    np.testing.assert_array_equal(read.embeddings, version.embed(pixels_of("5")))
    assert clock.slept == [0.5, 1.0]  # half of 1 and of 2
    assert len({headers["x-request-id"] for headers in script.headers}) == 1
    assert len(set(script.bodies)) == 1


@pytest.mark.anyio
async def test_the_asynchronous_client_asks_again_as_well(right: Line, retries: Retries, clock: Clock) -> None:
    with scripted(Line(503), DROP, right) as script:
        async with AsyncClient(script.url, retries=retries, sleep=clock.asleep) as client:
            assert (await client.embed(pixels_of("5"))).version == 1
    assert clock.slept == [0.5, 1.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 415, 422, 500, 302])
def test_what_would_only_fail_again_is_asked_once(status: int, retries: Retries, clock: Clock) -> None:
    with (
        scripted(Line(status)) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises(LookalikeError) as failed,
    ):
        client.embed(pixels_of("5"))
    assert not isinstance(failed.value, ProblemError) or failed.value.status == status
    assert clock.slept == []


def test_after_the_last_attempt_its_own_error_is_raised(retries: Retries, clock: Clock) -> None:
    lines = [Line(503), Line(503), Line(503), Line(429)]
    with scripted(*lines) as script, client_of(script.url, retries, clock) as client, pytest.raises(RateLimited):
        client.embed(pixels_of("5"))
    assert clock.slept == [0.5, 1.0, 2.0]


def test_nobody_who_listens_is_asked_again_and_then_told(retries: Retries, clock: Clock) -> None:
    with client_of(nobody(), retries, clock) as client, pytest.raises(ConnectionFailed, match="POST /embed") as failed:
        client.embed(pixels_of("5"))
    assert len(clock.slept) == 3
    assert isinstance(failed.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(
    ("asked", "slept"), [({"Retry-After": "3"}, 3.0), ({"Retry-After": "0"}, 0.5), ({"Retry-After": "99999"}, 5.0)]
)
def test_the_service_s_own_wish_is_honoured_up_to_the_longest_wait(
    asked: dict[str, str], slept: float, right: Line, retries: Retries, clock: Clock
) -> None:
    with scripted(Line(429, asked), right) as script, client_of(script.url, retries, clock) as client:
        client.embed(pixels_of("5"))
    assert clock.slept == [slept]


def test_a_broken_body_is_not_asked_for_again(right: Line, retries: Retries, clock: Clock) -> None:
    broken = Line(200, right.headers, right.body[:-4], claimed=len(right.body))
    with (
        scripted(broken) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises(ConnectionFailed, match="RemoteProtocolError"),
    ):
        client.embed(pixels_of("5"))
    short = Line(200, right.headers, right.body[:-4])
    with scripted(short) as script, client_of(script.url, retries, clock) as client, pytest.raises(MalformedAnswer):
        client.embed(pixels_of("5"))
    assert clock.slept == []


@pytest.mark.parametrize("call", ["reload", "ready", "live"])
@pytest.mark.parametrize("line", [Line(503, {"Retry-After": "1"}), DROP])
def test_what_changes_something_or_asks_for_now_is_sent_once(
    call: str, line: Line, retries: Retries, clock: Clock
) -> None:
    with (
        scripted(line) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises((NotReady, ConnectionFailed)),
    ):
        getattr(client, call)()
    assert clock.slept == []


def test_an_answer_that_comes_too_slowly_is_given_up(right: Line, retries: Retries, clock: Clock) -> None:
    def ticking() -> Iterator[float]:
        yield from (0.0, 0.0, 0.0)  # the call, the attempt and its end are set; then a part came late
        while True:
            yield 7.0

    late = Retries(attempts=1, clock=ticking().__next__)
    with scripted(right) as script, client_of(script.url, late, clock, timeout=5.0) as client, pytest.raises(TimedOut):
        client.embed(pixels_of("5"))


def told(status: int = 503, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", "r1")


def talk(replies: list[Reply], retries: Retries, clock: Clock, timeout: float = 8.0) -> list[Send]:
    """What a call sends where it is replied to so, until the replies are at an end; each attempt takes 3 seconds."""
    asking, sent = ask(Call("GET", "version"), retries, timeout), []
    sent.append(next(asking))
    for reply in replies:
        clock.now += sent[-1].wait + 3.0
        sent.append(asking.send(reply))
    return sent


def test_each_attempt_gets_the_timeout_or_what_is_left(retries: Retries, clock: Clock) -> None:
    sent = talk([told(), told(), told(retry_after="5")], retries, clock)
    assert [send.wait for send in sent] == [0.0, 0.5, 1.0, 5.0]
    assert [send.seconds for send in sent] == [8.0, 8.0, 8.0, 20 - (3 + 3.5 + 4 + 5)]


def test_nothing_is_waited_for_that_the_deadline_would_cut(retries: Retries, clock: Clock) -> None:
    clock.now = 100.0  # where a clock begins is its own affair
    replies: list[Reply] = [told(retry_after="5")] * 3  # at 3, 11 and 19 seconds of 20
    with pytest.raises(NotReady):
        talk(replies, retries, clock)
    assert clock.now == 119.0


def test_only_what_was_not_answered_is_sent_again(retries: Retries, clock: Clock) -> None:
    failed = ConnectionFailed("broken", "r1")
    assert len(talk([Failure(failed, again=True)], retries, clock)) == 2
    with pytest.raises(ConnectionFailed):
        talk([Failure(failed, again=False)], retries, clock)


@pytest.mark.parametrize("random", [0.0, 0.999])
def test_waits_double_up_to_the_longest_with_full_jitter(random: float) -> None:
    retries = Retries(first_wait=0.1, longest_wait=1.0, random=lambda: random)
    waits = [retries.wait(attempt, None) for attempt in (1, 2, 3, 4, 5, 5_000)]
    np.testing.assert_allclose(waits, np.array([0.1, 0.2, 0.4, 0.8, 1.0, 1.0]) * random)


@pytest.mark.parametrize("given", [{"attempts": 0}, {"seconds": 0}, {"first_wait": -1}, {"longest_wait": -1}])
def test_a_patience_that_sends_nothing_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected at least one attempt"):
        Retries(**given)  # type: ignore[arg-type]


def test_the_log_says_what_is_sent_again_and_nothing_of_the_user_s(
    retries: Retries, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lookalike")
    lines = [Line(503), DROP, Line(422)]
    with scripted(*lines) as script, client_of(script.url, retries, clock) as client, pytest.raises(ProblemError):
        client.search(inputs=np.full((1, 2), 31_337), filter={"field": "secret", "equal": 1})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("lookalike")]
    named = script.headers[0]["x-request-id"]
    assert ours == [
        f"POST /search: 503, again in 0.50 s (request {named})",
        f"POST /search: ConnectionFailed, again in 1.00 s (request {named})",
    ]
    assert "secret" in script.paths[0]


def test_a_problem_keeps_the_name_that_the_service_gave_the_request(retries: Retries, clock: Clock) -> None:
    with (
        scripted(Line(422, {"X-Request-ID": "theirs"})) as script,
        client_of(script.url, retries, clock) as client,
        pytest.raises(ProblemError) as failed,
    ):
        client.version()
    assert failed.value.request_id == "theirs"
    assert type(failed.value) is type(problem_error(failed.value.problem, "theirs"))
