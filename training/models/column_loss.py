"""The loss of a table's rows: each kind of column has its own loss, and all columns have the same weight.

A row's loss is the mean over its columns of a negative log-likelihood, each in the form that suits its kind:

    number                      the configured loss
    number, sometimes missing   binary cross-entropy of the indicator, and the configured loss if there is a value
    category                    cross-entropy over its values, including "missing" if it was sometimes missing

The second form does for a number what the third does for a category: is there a value, and if so, which? An unknown
category in a column that was never missing costs nothing.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from lookalike.training.errors import ConfigError
from lookalike.training.models.losses import SMALLEST_SHARE, Loss
from lookalike.training.tables.layout import Layout

__all__ = ["column_loss"]


def column_loss(base: Loss, layout: Layout) -> Loss:
    """Return `base` for the numbers and cross-entropy for all else; if there are only numbers, `base` itself.

    Output and target are (n, features): the target is preprocessed, the output has logits for categories and
    indicators. Raises ConfigError if `base` needs probabilities, which cannot be combined with logits.
    """
    if layout.numbers_only:
        return base
    if base.output == "probabilities":
        expected = "a loss of values or logits, for columns of several kinds"
        remedy = f"--set loss.kind={base.name}_logits and model.output=linear"
        raise ConfigError("loss.kind", expected=expected, found=base.name, remedy=remedy)
    name = f"{base.name}+cross_entropy" if layout.numbers else "cross_entropy"
    function, constant = partial(_loss, base.function, layout), partial(_constant, base, layout)
    return Loss(name, function, "logits", base.target, constant, base.range_logits)


def _loss(base: Callable[..., Tensor], layout: Layout, output: Tensor, target: Tensor) -> Tensor:
    total = output.new_zeros(())
    if layout.numbers:
        total = total + _numbers(base, layout, output, target)
    if layout.categories:
        total = total + _cross_entropy(layout, output[:, layout.first_slot :], target[:, layout.first_slot :])
    return total / (len(target) * layout.width)


def _numbers(base: Callable[..., Tensor], layout: Layout, output: Tensor, target: Tensor) -> Tensor:
    """The sum of the numbers' losses over rows and columns."""
    m, always = len(layout.numbers), len(layout.numbers) - layout.indicators
    errors = base(output[:, :m], target[:, :m], reduction="none")  # (n, m)
    if not layout.indicators:
        return errors.sum()
    missing = target[:, m : layout.first_slot]  # (n, indicators)
    indicators = functional.binary_cross_entropy_with_logits(output[:, m : layout.first_slot], missing, reduction="sum")
    return errors[:, :always].sum() + (errors[:, always:] * (1 - missing)).sum() + indicators


def _cross_entropy(layout: Layout, logits: Tensor, target: Tensor) -> Tensor:
    """The sum of (n, slots) losses over rows and columns; a column whose slots are all 0 in `target` adds nothing."""
    owner, members = _groups(layout, logits.device)
    with torch.no_grad():
        lowest = torch.full((len(logits), members.shape[1]), -torch.inf, device=logits.device)
        top = lowest.scatter_reduce(1, owner.expand(len(logits), -1), logits, "amax")  # (n, categories)
    powers = (logits - top.index_select(1, owner)).exp() @ members  # (n, slots) -> (n, categories)
    return ((powers.log() + top) * (target @ members) - (logits * target) @ members).sum()


@lru_cache(maxsize=8)
def _groups(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    """The category of each slot, (slots,) int64, and the same as (slots, categories) float32 of 0 and 1."""
    with torch.inference_mode(mode=False):  # the tensors are cached and may be needed for a gradient later
        owner = torch.tensor([number for number, slots in enumerate(layout.categories) for _ in range(slots.count)])
        members = functional.one_hot(owner, len(layout.categories)).float()
        return owner.to(device), members.to(device)


def _constant(base: Loss, layout: Layout, mean: Tensor) -> Tensor:
    """The constant of the configured loss for the numbers, and the logits and logs of the shares."""
    m, last = len(layout.numbers), layout.first_slot
    shares = mean.clamp(SMALLEST_SHARE, 1 - SMALLEST_SHARE)  # (..., features)
    numbers = base.constant(mean[..., :m]) if base.constant else mean[..., :m]
    return torch.cat([numbers, shares[..., m:last].logit(), shares[..., last:].log()], dim=-1)
