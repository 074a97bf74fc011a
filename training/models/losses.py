"""Pillar two: the loss. Each loss declares the model output and the target that it needs.

To add a loss: add a line to `LOSSES`, and its name to `LossConfig.kind` if `--set loss.kind` may name it.
`cross_entropy` is for the categories of tables and for the probe only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lookalike.training.config import LossConfig, ModelConfig
from lookalike.training.errors import ConfigError

__all__ = ["LOSSES", "SMALLEST_SHARE", "Loss", "bounded", "build_loss", "check_pair"]

SMALLEST_SHARE = 1e-4

Output = Literal["values", "logits", "probabilities"]
Target = Literal["values", "shares", "classes"]


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        function: takes (output, target, reduction="mean") and returns a scalar, or one loss for each value if the
            reduction is "none", which the losses of tables use.
        output: what the model must return: plain values, logits (no sigmoid or softmax: the loss applies it, in a
            form that does not overflow), or probabilities.
        target: what the output is compared with: plain values, shares in [0, 1], or int64 classes.
        constant: maps a constant target, (..., width), to the model output for it; None if they are equal.
        range_logits: whether the output is the logit of a value's share of its column's range.
    """

    name: str
    function: Callable[..., Tensor]
    output: Output = "values"
    target: Target = "values"
    constant: Callable[[Tensor], Tensor] | None = None
    range_logits: bool = False

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.function(output, target)


def _inside(share: Tensor) -> Tensor:
    """Keep shares away from 0 and 1, for which cross-entropy is infinite."""
    return share.clamp(SMALLEST_SHARE, 1 - SMALLEST_SHARE)


def _bce(probability: Tensor, share: Tensor, reduction: str = "mean") -> Tensor:
    """A share outside [0, 1] (of a held-out value beyond the training rows' range) counts as the nearest end."""
    return functional.binary_cross_entropy(probability, share.clamp(0, 1), reduction=reduction)


def _logit(share: Tensor) -> Tensor:
    return _inside(share).logit()


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse", functional.mse_loss),
        Loss("mae", functional.l1_loss),
        Loss("huber", functional.huber_loss),
        Loss("bce_logits", functional.binary_cross_entropy_with_logits, "logits", "shares", _logit, range_logits=True),
        Loss("bce", _bce, "probabilities", "shares", _inside),
        Loss("cross_entropy", functional.cross_entropy, "logits", "classes"),
    )
}


def bounded(loss: Loss, low: Tensor, high: Tensor) -> Loss:
    """Return a loss of shares for targets within [low, high], (width,) each: a value becomes its share of that range.

    A value outside counts as the nearest end; a column without a range counts as a half.
    """
    span = high - low
    flat = span <= 0
    scale = torch.where(flat, 0.0, 1 / span.where(~flat, torch.ones_like(span)))

    def shares(values: Tensor) -> Tensor:
        return ((values - low) * scale + 0.5 * flat).clamp_(0, 1)

    def constant(mean: Tensor) -> Tensor:
        return loss.constant(shares(mean)) if loss.constant else shares(mean)

    def function(output: Tensor, target: Tensor, **options: str) -> Tensor:
        return loss.function(output, shares(target), **options)

    return replace(loss, function=function, target="values", constant=constant)


def build_loss(config: LossConfig) -> Loss:
    return LOSSES[config.kind]


def check_pair(loss: Loss, model: ModelConfig) -> None:
    """Raise ConfigError for a sigmoid before a loss that applies one, and without one before a loss that does not."""
    required = {"values": None, "logits": "linear", "probabilities": "sigmoid"}[loss.output]
    if required and model.output != required:
        expected = f"{required}, because the loss {loss.name} needs {loss.output}"
        if loss.name.endswith("cross_entropy"):
            expected += " of a table's categories and gaps"
        remedy = f"--set model.output={required}"
        raise ConfigError("model.output", expected=expected, found=model.output, remedy=remedy)
