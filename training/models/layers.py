"""Parts of the stacks: layers initialized for their activation, and the conversion of rows to grids and back.

A grid is what a convolution reads: pictures, (batch, channels, height, width), or series, (batch, channels, length).
"""

import math

import torch
from torch import Tensor, nn

from lookalike.training.config import ModelConfig
from lookalike.training.errors import ConfigError

__all__ = [
    "ACTIVATIONS",
    "LatentNoise",
    "ToPicture",
    "ToRows",
    "ToSeries",
    "Weighted",
    "fans",
    "inner",
    "latent",
    "outer",
    "picture_shape",
    "series_shape",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

_RECTIFIERS = {"relu", "leaky_relu", "gelu", "silu"}
"""Activations that need He initialization."""

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | Transposed


class ToPicture(nn.Module):
    """Rows as pictures. No value moves: a row's channels are adjacent in memory, which is fastest for convolutions."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.shape = (height, width, channels)

    def forward(self, rows: Tensor) -> Tensor:
        pictures = rows.reshape(len(rows), *self.shape)  # (batch, h * w * c) -> (batch, h, w, c)
        return pictures.permute(0, 3, 1, 2)  # (batch, c, h, w)


class ToSeries(nn.Module):
    """Rows as series: a row has the channels' values of the first sample, then those of the next."""

    def __init__(self, length: int, channels: int) -> None:
        super().__init__()
        self.shape = (length, channels)

    def forward(self, rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), *self.shape).permute(0, 2, 1)  # (batch, l * c) -> (batch, c, l)


class ToRows(nn.Module):
    """Pictures or series as rows: the inverse of `ToPicture` and of `ToSeries`."""

    def forward(self, grids: Tensor) -> Tensor:
        return grids.movedim(1, -1).flatten(1)  # (batch, c, h, w) -> (batch, h * w * c)


class LatentNoise(nn.Module):
    """Adds normal noise in train mode, from torch's global generator; does nothing in eval mode."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, latent: Tensor) -> Tensor:
        return latent + self.deviation * torch.randn_like(latent) if self.training else latent


def latent(layer: nn.Linear, config: ModelConfig) -> list[nn.Module]:
    """Return the encoder's last layer, followed by the configured normalization and noise."""
    parts = outer(layer, "linear")
    if config.latent_norm:
        norm = nn.BatchNorm1d(layer.out_features)
        norm.requires_grad_(False)  # mean 0 and deviation 1 are the goal, not initial values to learn from
        parts.insert(1, norm)
    return [*parts, LatentNoise(config.latent_noise)] if config.latent_noise else parts


def inner(layer: Weighted, config: ModelConfig) -> list[nn.Module]:
    """Return a hidden layer and its configured batch norm, activation and dropout."""
    parts = outer(layer, config.activation)
    if config.batch_norm:
        outs = layer.weight.shape[1] if isinstance(layer, Transposed) else layer.weight.shape[0]
        parts.insert(1, nn.BatchNorm2d(outs) if layer.weight.dim() == 4 else nn.BatchNorm1d(outs))
    return [*parts, nn.Dropout(config.dropout)] if config.dropout else parts


def outer(layer: Weighted, activation: str) -> list[nn.Module]:
    """Return a stack's last layer, initialized for its activation, and the activation.

    He et al. 2015 for the rectifiers (including GELU and SiLU), Glorot and Bengio 2010 for the others.
    """
    ins, outs = fans(layer)
    variance = 2 / ins if activation in _RECTIFIERS else 2 / (ins + outs)
    nn.init.uniform_(layer.weight, -math.sqrt(3 * variance), math.sqrt(3 * variance))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return [layer, ACTIVATIONS[activation]()]


def picture_shape(shape: tuple[int, ...], field: str) -> tuple[int, int, int]:
    """Return (height, width, channels). Raises ConfigError about the setting `field` for rows of another shape."""
    if len(shape) not in {2, 3}:
        expected = "pictures: rows of shape (height, width) or (height, width, channels)"
        raise ConfigError(field, expected=expected, found=f"rows of shape ({', '.join(map(str, shape))})")
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels


def series_shape(shape: tuple[int, ...], field: str) -> tuple[int, int]:
    """Return (length, channels). Raises ConfigError about the setting `field` for rows of another shape."""
    if len(shape) != 2:
        expected, found = "windows: rows of shape (window, channels)", f"rows of shape ({', '.join(map(str, shape))})"
        raise ConfigError(field, expected=expected, found=found)
    return shape[0], shape[1]


def fans(layer: Weighted) -> tuple[float, float]:
    """Return how many inputs one output depends on, and how many outputs one input reaches, on average.

    With a stride of 2 in each direction the kernel is at one place in four: of the input; transposed, of the output.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    taps, places = math.prod(layer.kernel_size) / layer.groups, math.prod(layer.stride)
    ins, outs = layer.in_channels * taps, layer.out_channels * taps
    return (ins / places, outs) if isinstance(layer, Transposed) else (ins, outs / places)
