"""Pillar two: the loss. To add one: a line here, and its name in `LossConfig.kind`."""

from collections.abc import Callable

from torch import Tensor, nn

from training.config import LossConfig

__all__ = ["LOSSES", "Loss", "build_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(output, target), both (batch, width) preprocessed -> the mean over all values, a scalar."""

LOSSES: dict[str, Callable[[], Loss]] = {
    "mse": nn.MSELoss,
    "mae": nn.L1Loss,
    "huber": nn.HuberLoss,
}


def build_loss(config: LossConfig) -> Loss:
    """The configured loss."""
    return LOSSES[config.kind]()
