"""Pillar one: the autoencoder, a stack of layers and its mirror image, or a configured decoder."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from lookalike.training.config import ModelConfig
from lookalike.training.models.conv import conv_stacks
from lookalike.training.models.descriptors import WithDescriptor
from lookalike.training.models.layers import inner, latent, outer

__all__ = ["Autoencoder", "latent_dim_for"]

HEAD = 256
"""The width of the hidden layer between the latent space and further targets."""


class Autoencoder(nn.Module):
    """width -> hidden -> latent -> hidden mirrored -> width; or convolutions instead of `hidden`.

    The width is the product of `shape`. Convolutions read rows as pictures, or if `series` is true as windows of
    several channels. Raises ConfigError for convolutions of rows of another shape.

    An mlp may read a `descriptor` beside the row: the encoder's first layer computes it. With `targets` > 0 a head
    predicts as many more values from the latent space, which follow the row's in the output; only training needs it.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        config: ModelConfig,
        *,
        series: bool = False,
        descriptor: WithDescriptor | None = None,
        targets: int = 0,
    ) -> None:
        super().__init__()
        if config.kind == "conv":
            self.encoder, self.decoder = conv_stacks(shape, latent_dim, config, series=series)
        else:
            self.encoder, self.decoder = _mlp_stacks(math.prod(shape), latent_dim, config, descriptor)
        self.head = _head(latent_dim, targets, config) if targets else None

    def forward(self, rows: Tensor) -> Tensor:
        latent = self.encoder(rows)  # (batch, width) -> (batch, latent)
        output: Tensor = self.decoder(latent)  # (batch, latent) -> (batch, width)
        return (
            output if self.head is None else torch.cat([output, self.head(latent)], dim=1)
        )  # (batch, width + targets)


def latent_dim_for(width: int, config: ModelConfig) -> int:
    """Return the configured dimension, or for "auto" a quarter of the columns within [16, 32]."""
    return min(32, max(16, width // 4)) if config.latent_dim == "auto" else config.latent_dim


def _mlp_stacks(
    width: int, latent_dim: int, config: ModelConfig, descriptor: WithDescriptor | None
) -> tuple[nn.Sequential, nn.Sequential]:
    encoder_widths = [width + (descriptor.descriptor.outs if descriptor else 0), *config.hidden]
    decoder_widths = [latent_dim, *(config.hidden[::-1] if config.decoder == "mirror" else config.decoder)]
    encoder, latent_layer = _dense(encoder_widths, config), nn.Linear(encoder_widths[-1], latent_dim)
    decoder, output_layer = _dense(decoder_widths, config), nn.Linear(decoder_widths[-1], width)
    encoder = [*([descriptor] if descriptor else []), *encoder, *latent(latent_layer, config)]
    decoder += outer(output_layer, config.output)
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _head(latent_dim: int, targets: int, config: ModelConfig) -> nn.Sequential:
    return nn.Sequential(*_dense([latent_dim, HEAD], config), *outer(nn.Linear(HEAD, targets), "linear"))


def _dense(widths: list[int], config: ModelConfig) -> list[nn.Module]:
    """Linear layers, each with the configured norm, activation and dropout."""
    return [part for ins, outs in pairwise(widths) for part in inner(nn.Linear(ins, outs), config)]
