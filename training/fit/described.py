"""Choose and fit the descriptor that the encoder reads, and the second target of the loss."""

import math
from dataclasses import dataclass

from torch import Tensor

from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.config import TrainConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.descriptors import (
    SMALLEST_PICTURE,
    Gradients,
    WithDescriptor,
    automatic_cell,
    fit_descriptor,
)
from lookalike.training.models.targets import DescriptorTarget, fit_target

__all__ = ["Described", "described"]

MOST_FITTED = 10_000


@dataclass(frozen=True)
class Described:
    """The encoder's first layer, and the target of the loss beside the rows; None without."""

    layer: WithDescriptor | None = None
    target: DescriptorTarget | None = None


def described(
    config: TrainConfig, preprocess: Preprocessor, rows: Tensor, shape: tuple[int, ...], *, pixels: bool
) -> Described:
    """Return the configured descriptor, fitted to (n, features) preprocessed training rows of shape `shape`.

    `pixels`: whether all values of a row have one unit. Raises ConfigError for gradients of rows that are no pictures,
    and for settings that exclude each other.
    """
    pictures = pixels and len(shape) in {2, 3} and not preprocess.table
    kind, target = config.features.kind, config.loss.target
    usable = pictures and min(shape[:2]) >= SMALLEST_PICTURE and config.model.kind == "mlp"
    kind = ("gradients" if usable else "none") if kind == "auto" else kind
    if kind == "none":
        if target == "gradients":
            raise ConfigError("loss.target", expected="rows, because features.kind is none", found=target)
        return Described()
    if not pictures:
        found = f"rows of shape ({', '.join(map(str, shape))})"
        raise ConfigError("features.kind", expected="none, or pictures: (height, width) or with channels", found=found)
    if config.model.kind != "mlp":
        expected, found = "mlp, because features.kind is gradients", config.model.kind
        raise ConfigError("model.kind", expected=expected, found=found, remedy="--set features.kind=none")
    height, width, channels = (*shape, 1)[:3]
    cell = automatic_cell(height, width) if config.features.cell == "auto" else config.features.cell
    if cell > max(height, width):
        expected = f"at most {max(height, width)}, the longer side of a picture"
        raise ConfigError("features.cell", expected=expected, found=str(cell))
    sample = rows[:: math.ceil(len(rows) / MOST_FITTED)]
    layer = fit_descriptor(Gradients(height, width, channels, cell), sample, preprocess.base)
    return Described(layer, fit_target(layer, sample) if target != "rows" else None)
