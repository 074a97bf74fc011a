"""Choose bfloat16 or float32 for the matrix products: as configured, or the faster of the two on this machine.

P. Micikevicius et al., "Mixed Precision Training", ICLR 2018; D. Kalamkar et al., "A Study of BFLOAT16", 2019.
"""

import copy
import time
from typing import Literal

import torch
from torch import Tensor, nn, optim

from lookalike.training.errors import ConfigError
from lookalike.training.fit.step_cost import is_short
from lookalike.training.models.losses import Loss

__all__ = ["Precision", "choose_bf16", "is_worth_it"]

Precision = Literal["auto", "fp32", "bf16"]

ROUNDS = 5
FASTER = 1.15


def choose_bf16(precision: Precision, model: nn.Module, loss: Loss, optimizer: optim.Optimizer, rows: Tensor) -> bool:
    """Whether to train in bf16.

    "auto" keeps fp32 without a measurement if a step is short, so that small runs can be repeated bit for bit.
    Otherwise it measures a few steps in each precision, on copies, and bf16 must be faster by 15 %.

    `rows`: (batch, width) float32. Raises ConfigError for "bf16" on a device that does not support it.
    """
    device = next(model.parameters()).device
    supported = _supports_bf16(device)
    if precision == "bf16" and not supported:
        expected, remedy = "fp32 or auto on this device", "--set fit.precision=fp32"
        raise ConfigError("fit.precision", expected=expected, found="bf16", remedy=remedy)
    if precision != "auto" or not supported or is_short(model, rows, len(rows)):
        return precision == "bf16"
    seconds: dict[bool, list[float]] = {False: [], True: []}
    rows = rows.to(device)
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # dropout draws from the global generator
        copies = copy.deepcopy((model, optimizer))  # together: the copied optimizer must update the copied model
        for bf16 in (False, True) * (1 + ROUNDS):
            seconds[bf16].append(_seconds(copies, loss, rows, bf16=bf16))
    return is_worth_it(seconds[False][1:], seconds[True][1:])  # the first step of each is a warm-up


def is_worth_it(fp32: list[float], bf16: list[float]) -> bool:
    """Whether bf16's shortest time is 15 % faster than fp32's shortest: disturbances only make a step slower."""
    return FASTER * min(bf16) <= min(fp32)


def _supports_bf16(device: torch.device) -> bool:
    return device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)


def _seconds(copies: tuple[nn.Module, optim.Optimizer], loss: Loss, rows: Tensor, *, bf16: bool) -> float:
    """Return the seconds that one training step takes."""
    model, optimizer = copies
    model.train()
    _finish(rows.device)
    started = time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=bf16):
        output = model(rows)
    loss(output.float(), rows).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    _finish(rows.device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    """Wait for the GPU: its kernels run asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
