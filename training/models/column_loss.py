"""The loss of a table's rows: each kind of column has its own loss, and all fields have the same weight.

A row's loss is the weighted mean over its columns of a negative log-likelihood, each in the form that suits its kind:

    number      binary cross-entropy of the indicator, and the configured loss if there is a value
    category    cross-entropy over its values, including "missing"

The first form does for a number what the second does for a category: is there a value, and if so, which? A field counts
1, or its `data.weight`; several columns of one field, such as the parts of a date, share its weight.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from lookalike.training.errors import ConfigError
from lookalike.training.models.losses import SMALLEST_SHARE, Loss
from lookalike.training.tables.columns import Column
from lookalike.training.tables.layout import Layout

__all__ = ["column_loss", "column_weights"]


def column_weights(columns: Sequence[Column], weights: Mapping[str, float]) -> tuple[float, ...]:
    """Return the weight of each column: that of its field, shared by the columns of the field.

    Raises ConfigError if a name in `weights` is no field of the columns.
    """
    counts = Counter(column.field for column in columns)
    if unknown := sorted(weights.keys() - counts):
        expected = (
            f"names of input columns: {', '.join(counts)[:1_000]}" if counts else "no names: the rows are no table"
        )
        raise ConfigError("data.weight", expected=expected, found=repr(unknown[0]))
    return tuple(weights.get(column.field, 1.0) / counts[column.field] for column in columns)


def column_loss(base: Loss, layout: Layout, weights: Sequence[float]) -> Loss:
    """Return `base` for the numbers and cross-entropy for all else.

    Output and target are (n, features): the target is preprocessed, the output has logits for categories and
    indicators. `weights`: (width,) the weight of each raw column. Raises ConfigError if `base` needs probabilities,
    which cannot be combined with logits.
    """
    if base.output == "probabilities":
        expected = "bce_logits, mse, mae or huber, because the outputs of a table include logits of categories and gaps"
        remedy = f"Use --set loss.kind={base.name}_logits --set model.output=linear."
        raise ConfigError("loss.kind", expected=expected, found=base.name, remedy=remedy)
    name = f"{base.name}+cross_entropy" if layout.numbers else "cross_entropy"
    function = partial(_loss, base.function, layout, tuple(weights))
    return Loss(name, function, "logits", base.target, partial(_constant, base, layout), base.range_logits)


def _loss(
    base: Callable[..., Tensor], layout: Layout, weights: tuple[float, ...], output: Tensor, target: Tensor
) -> Tensor:
    total = output.new_zeros(())
    of_numbers, of_categories = _weights(layout, weights, output.device)
    if layout.numbers:
        total = total + _numbers(base, layout, output, target) @ of_numbers
    if layout.categories:
        losses = _cross_entropy(layout, output[:, layout.first_slot :], target[:, layout.first_slot :])
        total = total + losses @ of_categories
    return total / (len(target) * sum(weights))


def _numbers(base: Callable[..., Tensor], layout: Layout, output: Tensor, target: Tensor) -> Tensor:
    """(m,): the sums of the numbers' losses over rows."""
    m = len(layout.numbers)
    errors = base(output[:, :m], target[:, :m], reduction="none")  # (n, m)
    missing = target[:, m : layout.first_slot]  # (n, m)
    logits = output[:, m : layout.first_slot]
    indicators = functional.binary_cross_entropy_with_logits(logits, missing, reduction="none")  # (n, m)
    return (errors * (1 - missing) + indicators).sum(dim=0)


def _cross_entropy(layout: Layout, logits: Tensor, target: Tensor) -> Tensor:
    """(categories,): the sums of (n, slots) losses over rows."""
    owner, members = _groups(layout, logits.device)
    with torch.no_grad():
        lowest = torch.full((len(logits), members.shape[1]), -torch.inf, device=logits.device)
        top = lowest.scatter_reduce(1, owner.expand(len(logits), -1), logits, "amax")  # (n, categories)
    powers = (logits - top.index_select(1, owner)).exp() @ members  # (n, slots) -> (n, categories)
    return ((powers.log() + top) * (target @ members) - (logits * target) @ members).sum(dim=0)


@lru_cache(maxsize=8)
def _weights(layout: Layout, weights: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The weights of the numbers, (m,), and of the categories, (categories,), float32."""
    with torch.inference_mode(mode=False):
        numbers = torch.tensor([weights[number] for number in layout.numbers])
        categories = torch.tensor([weights[slots.column] for slots in layout.categories])
        return numbers.to(device), categories.to(device)


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
