"""Work on several chunks of rows at a time, each in its own thread, with the results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["map_in_order", "one_thread_each"]

Value = TypeVar("Value")
Result = TypeVar("Result")


@contextmanager
def one_thread_each(device: torch.device) -> Iterator[int]:
    """Yield how many encoders can work at the same time, and limit torch to one thread each until the end.

    Two threads that share one matrix product wait for each other at its end, for a whole time slice if another thread
    uses one of their cores. Two products in parallel never wait.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores if device.type == "cpu" else 1  # a GPU has one queue, and its settings are global
    finally:
        torch.set_num_threads(cores)


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
