"""Pillar one: the autoencoder, a stack of layers and its mirror image, or a configured decoder."""

import math
from itertools import pairwise

from torch import Tensor, nn

from lookalike.training.config import ModelConfig
from lookalike.training.models.conv import conv_stacks
from lookalike.training.models.layers import inner, latent, outer

__all__ = ["Autoencoder", "latent_dim_for"]


class Autoencoder(nn.Module):
    """width -> hidden -> latent -> hidden mirrored -> width; or convolutions instead of `hidden`.

    The width is the product of `shape`. Convolutions read rows as pictures, or if `series` is true as windows of
    several channels. Raises ConfigError for convolutions of rows of another shape.
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, config: ModelConfig, *, series: bool = False) -> None:
        super().__init__()
        if config.kind == "conv":
            self.encoder, self.decoder = conv_stacks(shape, latent_dim, config, series=series)
        else:
            self.encoder, self.decoder = _mlp_stacks(shape, latent_dim, config)

    def forward(self, rows: Tensor) -> Tensor:
        latent = self.encoder(rows)  # (batch, width) -> (batch, latent)
        output: Tensor = self.decoder(latent)  # (batch, latent) -> (batch, width)
        return output


def latent_dim_for(width: int, config: ModelConfig) -> int:
    """Return the configured dimension, or for "auto" a quarter of the columns within [16, 32]."""
    return min(32, max(16, width // 4)) if config.latent_dim == "auto" else config.latent_dim


def _mlp_stacks(shape: tuple[int, ...], latent_dim: int, config: ModelConfig) -> tuple[nn.Sequential, nn.Sequential]:
    width = math.prod(shape)
    encoder_widths = [width, *config.hidden]
    decoder_widths = [latent_dim, *(config.hidden[::-1] if config.decoder == "mirror" else config.decoder)]
    encoder, latent_layer = _dense(encoder_widths, config), nn.Linear(encoder_widths[-1], latent_dim)
    decoder, output_layer = _dense(decoder_widths, config), nn.Linear(decoder_widths[-1], width)
    encoder += latent(latent_layer, config)
    decoder += outer(output_layer, config.output)
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _dense(widths: list[int], config: ModelConfig) -> list[nn.Module]:
    """Linear layers, each with the configured norm, activation and dropout."""
    return [part for ins, outs in pairwise(widths) for part in inner(nn.Linear(ins, outs), config)]
