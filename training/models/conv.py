"""The convolutional autoencoder: each convolution halves a grid's sides, and each transposed one doubles them.

Pictures have two sides, and kernels of 3 x 3. Windows of recordings have one side, the time, and kernels of 5 samples.
"""

import math
from itertools import pairwise

from torch import nn

from lookalike.training.config import ModelConfig
from lookalike.training.models.layers import (
    ToPicture,
    ToRows,
    ToSeries,
    inner,
    latent,
    outer,
    picture_shape,
    series_shape,
)

__all__ = ["KERNEL", "PADDING", "SERIES_KERNEL", "SERIES_PADDING", "STRIDE", "conv_stacks"]

KERNEL, PADDING = 3, 1
SERIES_KERNEL, SERIES_PADDING = 5, 2
STRIDE = 2
"""A side of length s becomes ceil(s / 2)."""

Sides = tuple[int, ...]
"""(height, width) or (length,)."""


def conv_stacks(
    shape: tuple[int, ...], latent_dim: int, config: ModelConfig, *, series: bool = False
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the encoder, (n, width) -> (n, latent_dim), and the decoder, (n, latent_dim) -> (n, width).

    `shape`, of a row, channels last: (height, width) or (height, width, channels); for `series` (length, channels).
    Raises ConfigError for another shape.
    """
    *sides, channels = (series_shape if series else picture_shape)(shape, "model.kind")
    decoder_channels = config.channels[::-1] if config.decoder == "mirror" else config.decoder
    grid = tuple(sides), channels
    return _encoder(*grid, latent_dim, config), _decoder(*grid, latent_dim, decoder_channels, config)


def _encoder(sides: Sides, channels: int, latent_dim: int, config: ModelConfig) -> nn.Sequential:
    layers: list[nn.Module] = [_to_grid(sides, channels)]
    for ins, outs in pairwise([channels, *config.channels]):
        layers += inner(_halving(ins, outs, len(sides)), config)
    smallest = _halved(sides, len(config.channels))[-1]
    layers.append(ToRows())
    return nn.Sequential(*layers, *latent(nn.Linear(math.prod(smallest) * config.channels[-1], latent_dim), config))


def _decoder(
    sides: Sides, channels: int, latent_dim: int, decoder_channels: tuple[int, ...], config: ModelConfig
) -> nn.Sequential:
    if not decoder_channels:
        return nn.Sequential(*outer(nn.Linear(latent_dim, math.prod(sides) * channels), config.output))
    growing = _halved(sides, len(decoder_channels))[::-1]  # smallest first
    smallest, first = growing[0], decoder_channels[0]
    layers = [*inner(nn.Linear(latent_dim, math.prod(smallest) * first), config), _to_grid(smallest, first)]
    for ins, outs, small, large in zip(decoder_channels, decoder_channels[1:], growing, growing[1:], strict=False):
        layers += inner(_doubling(ins, outs, small, large), config)
    layers += outer(_doubling(decoder_channels[-1], channels, growing[-2], growing[-1]), config.output)
    return nn.Sequential(*layers, ToRows())


def _to_grid(sides: Sides, channels: int) -> nn.Module:
    return ToSeries(sides[0], channels) if len(sides) == 1 else ToPicture(sides[0], sides[1], channels)


def _halving(ins: int, outs: int, sides: int) -> nn.Conv1d | nn.Conv2d:
    if sides == 1:
        return nn.Conv1d(ins, outs, SERIES_KERNEL, STRIDE, SERIES_PADDING)
    return nn.Conv2d(ins, outs, KERNEL, STRIDE, PADDING)


def _doubling(ins: int, outs: int, small: Sides, large: Sides) -> nn.ConvTranspose1d | nn.ConvTranspose2d:
    """A layer from the sides `small` to exactly `large`; `small` is half of `large`, rounded up."""
    more = tuple(to - (2 * side - 1) for side, to in zip(small, large, strict=True))  # 0 if a side is odd, else 1
    if len(more) == 1:
        return nn.ConvTranspose1d(ins, outs, SERIES_KERNEL, STRIDE, SERIES_PADDING, output_padding=more[0])
    return nn.ConvTranspose2d(ins, outs, KERNEL, STRIDE, PADDING, output_padding=(more[0], more[1]))


def _halved(sides: Sides, times: int) -> list[Sides]:
    """The sides before the first halving, and after each halving."""
    return [tuple(-(-side // 2**n) for side in sides) for n in range(times + 1)]
