"""Work on several parts of the rows at a time, each on a thread of its own, and hand the results on in order."""

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
    """How many encoders can work side by side; meanwhile torch gives each of them one thread.

    Two threads that share one product wait for each other at its end, a whole time slice where another thread has one
    of their cores. Two products beside each other never wait.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores if device.type == "cpu" else 1  # another device has one queue, and its settings are for all
    finally:
        torch.set_num_threads(cores)


def map_in_order(step: Callable[[Value], Result], values: Iterator[Value], threads: int = 1) -> Generator[Result]:
    """`step` of each value, in the order of the values; so many threads work on them, and one result more is kept.

    The values are fetched by the thread that asks for the results. The one more lets no thread idle meanwhile.
    """
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Result]] = deque()
        for value in values:
            coming.append(pool.submit(step, value))
            if len(coming) > threads + 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
