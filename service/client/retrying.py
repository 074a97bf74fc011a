"""Which calls are retried, and when: exponential backoff with full jitter, within a deadline.

After "Exponential Backoff and Jitter", M. Brooker, AWS Architecture Blog, 2015.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from lookalike.service.client.errors import LookalikeError, ProblemError
from lookalike.service.client.messages import Call, Exchange, Reply, Response, Send
from lookalike.service.client.responses import read_problem

__all__ = ["RETRIES", "Retries", "request"]

RETRY_STATUSES = {429, 502, 503, 504}
"""Statuses of temporary failures."""
_MIN_TIMEOUT = 0.001
log = logging.getLogger("lookalike.client")


@dataclass(frozen=True)
class Retries:
    """When a client retries a call, and when it gives up.

    Attributes:
        max_attempts: how often one call is sent at most; 1 means no retry.
        initial_wait: the longest wait before the second attempt, in seconds; it doubles before each later attempt.
        max_wait: the longest single wait in seconds, even if the service asks for more.
        deadline_seconds: for all attempts of a call together; each part of a large array has its full deadline.
        random: returns a factor from 0 to 1 that shortens a wait, so that many clients do not retry at once.
        clock: returns monotonic seconds.
    """

    max_attempts: int = 4
    initial_wait: float = 0.1
    max_wait: float = 10.0
    deadline_seconds: float = 60.0
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Raises ValueError if a call would never be sent, or a wait is negative."""
        if self.max_attempts < 1 or not self.deadline_seconds > 0 or self.initial_wait < 0 or self.max_wait < 0:
            raise ValueError(f"expected at least one attempt, a deadline over 0 and no negative wait, found {self}")

    def wait(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the attempt with this number (from 1); at least `retry_after`, at most `max_wait`."""
        longest = min(self.max_wait, self.initial_wait * 2.0 ** min(attempt - 1, 60))
        return max(self.random() * longest, min(retry_after or 0.0, self.max_wait))


RETRIES = Retries()


def request(call: Call, retries: Retries, timeout: float) -> Exchange[Response]:
    """Send a call, and retry it until the status is 200 or a retry is pointless.

    Raises:
        ProblemError: the last attempt failed, or an attempt failed in a way that a retry does not change.
        ConnectionFailed: the same, without a response.
        MalformedResponse: a redirect, or a status that the service never returns.
    """
    end = retries.clock() + retries.deadline_seconds
    attempt, wait = 1, 0.0
    while True:
        remaining = end - retries.clock() - wait
        reply = yield Send(call, wait, max(min(timeout, remaining), _MIN_TIMEOUT))
        if isinstance(reply, Response) and reply.status == 200:
            return reply
        error, retryable, retry_after = _classify(reply)
        wait = retries.wait(attempt, retry_after)
        if not (call.retryable and retryable) or attempt == retries.max_attempts or retries.clock() + wait >= end:
            raise error
        reason = reply.status if isinstance(reply, Response) else type(reply.error).__name__
        log.info("%s /%s: %s, retrying in %.2f s (request %s)", call.method, call.path, reason, wait, call.id)
        attempt += 1


def _classify(reply: Reply) -> tuple[LookalikeError, bool, float | None]:
    """The error of a failed attempt, whether a retry may help, and the seconds of Retry-After."""
    if not isinstance(reply, Response):
        return reply.error, reply.retryable, None
    error = read_problem(reply)
    return error, reply.status in RETRY_STATUSES, error.retry_after if isinstance(error, ProblemError) else None
