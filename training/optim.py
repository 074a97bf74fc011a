"""Pillar three: the optimizer and the schedule of its learning rate."""

import math
from collections.abc import Callable

from torch import nn, optim

from training.config import OptimizerConfig

__all__ = ["Schedule", "build_optimizer", "build_schedule"]

Schedule = Callable[[float], float]
"""The share of the run that is done, 0 to 1 -> the learning rate. A pure function: nothing to resume."""


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> optim.Optimizer:
    """The configured optimizer over all parameters; fused, which is one pass over the weights a step."""
    weights = list(model.parameters())
    if config.kind == "sgd":
        return optim.SGD(weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    kind: type[optim.Adam] = {"adam": optim.Adam, "adamw": optim.AdamW}[config.kind]
    return kind(weights, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def build_schedule(config: OptimizerConfig) -> Schedule:
    """The configured schedule.

    "cosine" goes from `lr` to 0 along half a cosine: Loshchilov and Hutter, "SGDR", ICLR 2017.
    """
    if config.schedule == "constant":
        return lambda done: config.lr
    return lambda done: config.lr * 0.5 * (1.0 + math.cos(math.pi * done))
