"""How heavy a step of the loop is, and how many threads it is worth."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["few_threads", "is_short", "work_of"]

SHORT_STEP = 1 << 26
"""Multiplications forward; a step of this takes some milliseconds on one core."""


def work_of(model: nn.Module, rows: Tensor) -> int:
    """How many multiplications `model` does on its way from one row to an answer; `rows`: (n, width), n >= 1."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(rows[:1].to(next(model.parameters()).device))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition


def is_short(model: nn.Module, rows: Tensor, batch_size: int) -> bool:
    """Whether a step takes no more than a few milliseconds on one core; `rows` as in `work_of`."""
    return batch_size * work_of(model, rows) < SHORT_STEP


@contextlib.contextmanager
def few_threads(*, short: bool) -> Iterator[None]:
    """One thread where a step is short: more would gain nothing, and wait for each other where cores are busy."""
    before = torch.get_num_threads()
    if short:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
