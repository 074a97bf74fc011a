"""How many encoders work at the same time, each in its own thread."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread_each"]


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
