"""The convolutional autoencoder: each convolution halves a picture's sides, and each transposed one doubles them."""

import math
from itertools import pairwise

from torch import nn

from lookalike.training.config import ModelConfig
from lookalike.training.models.layers import ToPicture, ToRows, inner, latent, outer, picture_shape

__all__ = ["KERNEL", "PADDING", "STRIDE", "conv_stacks"]

KERNEL, STRIDE, PADDING = 3, 2, 1
"""A side of length s becomes ceil(s / 2)."""


def conv_stacks(shape: tuple[int, ...], latent_dim: int, config: ModelConfig) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the encoder, (n, width) -> (n, latent_dim), and the decoder, (n, latent_dim) -> (n, width).

    `shape`: (height, width) or (height, width, channels) of a row, channels last; else raises ConfigError.
    """
    picture = picture_shape(shape, "model.kind")
    decoder_channels = config.channels[::-1] if config.decoder == "mirror" else config.decoder
    return _encoder(picture, latent_dim, config), _decoder(picture, latent_dim, decoder_channels, config)


def _encoder(picture: tuple[int, int, int], latent_dim: int, config: ModelConfig) -> nn.Sequential:
    height, width, channels = picture
    layers: list[nn.Module] = [ToPicture(*picture)]
    for ins, outs in pairwise([channels, *config.channels]):
        layers += inner(nn.Conv2d(ins, outs, KERNEL, STRIDE, PADDING), config)
    smallest = _halved(height, width, len(config.channels))[-1]
    layers.append(ToRows())
    return nn.Sequential(*layers, *latent(nn.Linear(math.prod(smallest) * config.channels[-1], latent_dim), config))


def _decoder(
    picture: tuple[int, int, int], latent_dim: int, decoder_channels: tuple[int, ...], config: ModelConfig
) -> nn.Sequential:
    if not decoder_channels:
        return nn.Sequential(*outer(nn.Linear(latent_dim, math.prod(picture)), config.output))
    height, width, channels = picture
    sides = _halved(height, width, len(decoder_channels))[::-1]  # smallest first
    first = (*sides[0], decoder_channels[0])
    layers = [*inner(nn.Linear(latent_dim, math.prod(first)), config), ToPicture(*first)]
    for ins, outs, small, large in zip(decoder_channels, decoder_channels[1:], sides, sides[1:], strict=False):
        layers += inner(_doubling(ins, outs, small, large), config)
    layers += outer(_doubling(decoder_channels[-1], channels, sides[-2], sides[-1]), config.output)
    return nn.Sequential(*layers, ToRows())


def _doubling(ins: int, outs: int, small: tuple[int, int], large: tuple[int, int]) -> nn.ConvTranspose2d:
    """A layer from the sides `small` to exactly `large`; `small` is half of `large`, rounded up."""
    more = (large[0] - (2 * small[0] - 1), large[1] - (2 * small[1] - 1))  # 0 if a side is odd, else 1
    return nn.ConvTranspose2d(ins, outs, KERNEL, STRIDE, PADDING, output_padding=more)


def _halved(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """The sides before the first halving, and after each halving."""
    return [(-(-height // 2**n), -(-width // 2**n)) for n in range(times + 1)]
