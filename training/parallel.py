"""Apply a step to several values at a time, each in its own thread, with the results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_in_order"]

Value = TypeVar("Value")
Result = TypeVar("Result")


def map_in_order(step: Callable[[Value], Result], values: Iterator[Value], threads: int = 1) -> Generator[Result]:
    """Yield `step(value)` in the order of the values; uses `threads` workers and buffers one extra result.

    The caller's thread fetches the values. With the extra result, no worker is idle in the meantime.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        for value in values:
            pending.append(pool.submit(step, value))
            if len(pending) > threads + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
