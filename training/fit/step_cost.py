"""Estimate the cost of a training step, and choose its number of threads."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["few_threads", "is_short", "work_of"]

SHORT_STEP = 1 << 26
"""Multiplications in the forward pass; a step of this size takes a few milliseconds on one core."""


def work_of(model: nn.Module, rows: Tensor) -> int:
    """Return the number of multiplications in `model`'s forward pass for one row; `rows`: (n, width), n >= 1."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(rows[:1].to(next(model.parameters()).device))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition


def is_short(model: nn.Module, rows: Tensor, batch_size: int) -> bool:
    """Whether a step takes at most a few milliseconds on one core; `rows` as in `work_of`."""
    return batch_size * work_of(model, rows) < SHORT_STEP


@contextlib.contextmanager
def few_threads(*, short: bool) -> Iterator[None]:
    """Use one thread if a step is short: more threads gain nothing, and wait for each other when cores are busy."""
    before = torch.get_num_threads()
    if short:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
