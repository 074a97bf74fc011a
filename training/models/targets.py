"""A second target of the loss: the leading principal components of a row's descriptor, partly whitened.

C. Wei et al., "Masked Feature Prediction for Self-Supervised Visual Pre-Training", CVPR 2022, predict oriented
gradients of the clean picture. Components with little variance are often noise, so whitening is halved.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from lookalike.training.models.descriptors import BLOCK, WithDescriptor
from lookalike.training.models.losses import Loss

__all__ = ["DescriptorTarget", "fit_target", "with_target"]

COMPONENTS = 128
POWER = 0.5
"""1 would give all components the same variance."""


@dataclass(frozen=True)
class DescriptorTarget:
    """A linear map of the descriptor; the target has mean 0 and, over all components, a mean square of 1.

    Attributes:
        layer: describes a row.
        axes: (outs, components) float32.
    """

    layer: WithDescriptor
    axes: Tensor

    @property
    def size(self) -> int:
        """The number of components."""
        return self.axes.shape[1]

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        """(n, features) preprocessed, clean -> (n, components)."""
        return self.layer.describe(rows) @ self.axes

    def to(self, device: torch.device) -> "DescriptorTarget":
        return DescriptorTarget(self.layer.to(device), self.axes.to(device))


def fit_target(layer: WithDescriptor, rows: Tensor) -> DescriptorTarget:
    """Return the target of (n, features) preprocessed training rows: at most 128 principal components."""
    described = torch.cat([layer.describe(block) for block in torch.split(rows, BLOCK)]).double()  # (n, outs)
    variances, axes = torch.linalg.eigh(described.T @ described / len(described))  # ascending
    count = min(COMPONENTS, int((variances > 1e-9 * variances[-1]).sum()), len(described))
    variances, axes = variances[-count:].flip(0), axes[:, -count:].flip(1)
    whitened = axes * variances.clamp_min(1e-12) ** (-POWER / 2)  # component k has the variance v_k ^ (1 - POWER)
    mean_square = (variances ** (1 - POWER)).mean()
    return DescriptorTarget(layer, (whitened / mean_square.sqrt()).float())


def with_target(loss: Loss, target: DescriptorTarget, weight: float) -> Loss:
    """Return `loss` of the rows plus `weight` times the mean square error of the descriptor's target.

    The output is (n, features + components): the row's part, then the target's. The target is the clean row. The
    constant output for a mean row, (features,), has the mean of the target, 0; that for rows has their target.
    """
    size = target.size

    def function(output: Tensor, rows: Tensor, reduction: str = "mean") -> Tensor:
        of_rows = loss.function(output[:, :-size], rows, reduction=reduction)
        of_target = functional.mse_loss(output[:, -size:], target(rows), reduction=reduction)
        if reduction == "none":
            return torch.cat([of_rows, weight * of_target], dim=1)
        return of_rows + weight * of_target

    def constant(mean: Tensor) -> Tensor:
        rows = loss.constant(mean) if loss.constant else mean
        of_target = target(mean) if mean.dim() > 1 else mean.new_zeros(size)  # 0 is the mean over all rows
        return torch.cat([rows, of_target], dim=-1)

    return replace(loss, name=f"{loss.name}+descriptor", function=function, constant=constant)
