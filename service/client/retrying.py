"""Which calls are sent again, and when: exponential backoff with full jitter, within a deadline.

After "Exponential Backoff and Jitter", M. Brooker, AWS Architecture Blog, 2015.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from lookalike.service.client.answers import read_problem
from lookalike.service.client.errors import LookalikeError, ProblemError
from lookalike.service.client.messages import Answer, Call, Exchange, Reply, Send

__all__ = ["RETRIES", "Retries", "ask"]

AGAIN = {429, 502, 503, 504}
"""Statuses that pass."""
_SHORTEST = 0.001
log = logging.getLogger("lookalike.client")


@dataclass(frozen=True)
class Retries:
    """How patient a client is.

    Attributes:
        attempts: how often one call is sent at most; 1 never sends it again.
        first_wait: seconds; before the second attempt it waits up to this, before each next up to twice as long.
        longest_wait: seconds that one wait takes at most, also where the service asks for more.
        seconds: for all attempts together; each part of a large array has them anew.
        random: a number from 0 to 1, by which a wait is shortened, so that many clients do not come back at once.
        clock: seconds that never go back.
    """

    attempts: int = 4
    first_wait: float = 0.1
    longest_wait: float = 10.0
    seconds: float = 60.0
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Raises ValueError where nothing would ever be sent."""
        if self.attempts < 1 or not self.seconds > 0 or self.first_wait < 0 or self.longest_wait < 0:
            raise ValueError(f"expected at least one attempt, some seconds and no negative wait, found {self}")

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before the attempt after this one (from 1); never less than `asked`, up to the longest."""
        widest = min(self.longest_wait, self.first_wait * 2.0 ** min(attempt - 1, 60))
        return max(self.random() * widest, min(asked or 0.0, self.longest_wait))


RETRIES = Retries()


def ask(call: Call, retries: Retries, timeout: float) -> Exchange[Answer]:
    """Send a call until it is answered with 200, or for good.

    Raises:
        ProblemError: of the last attempt, or of the first that would only fail again.
        ConnectionFailed: the same, of no answer.
        MalformedAnswer: a redirect, or another status that the service never gives.
    """
    end = retries.clock() + retries.seconds
    attempt, wait = 1, 0.0
    while True:
        left = end - retries.clock() - wait
        reply = yield Send(call, wait, max(min(timeout, left), _SHORTEST))
        if isinstance(reply, Answer) and reply.status == 200:
            return reply
        error, passes, asked = _judge(reply)
        wait = retries.wait(attempt, asked)
        if not (call.again and passes) or attempt == retries.attempts or retries.clock() + wait >= end:
            raise error
        reason = reply.status if isinstance(reply, Answer) else type(reply.error).__name__
        log.info("%s /%s: %s, again in %.2f s (request %s)", call.method, call.path, reason, wait, call.id)
        attempt += 1


def _judge(reply: Reply) -> tuple[LookalikeError, bool, float | None]:
    """What to raise, whether it may pass, and after how long the service says that it will."""
    if not isinstance(reply, Answer):
        return reply.error, reply.again, None
    error = read_problem(reply)
    return error, reply.status in AGAIN, error.retry_after if isinstance(error, ProblemError) else None
