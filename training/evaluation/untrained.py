"""An untrained encoder of the same architecture: the baseline for a trained encoder."""

import dataclasses
import math

import torch
from torch import Tensor

from lookalike.training.artifact.architecture import rebuild
from lookalike.training.artifact.encoder import Encoder

__all__ = ["untrained"]


def untrained(encoder: Encoder, seed: int = 0) -> Encoder:
    """Return the same layers with the initial weights of a training run (He et al. 2015), and the same scaling.

    The encoder is on the CPU, and its digest is empty: no artifact contains it.
    """
    generator = torch.Generator().manual_seed(seed)

    def initial(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("bias"):
            return torch.zeros(shape)
        reach = math.sqrt(6 / math.prod(shape[1:]))
        return (2 * torch.rand(shape, generator=generator) - 1) * reach

    features, latent = encoder.preprocess.features, encoder.latent_dim
    cpu = torch.device("cpu")
    return dataclasses.replace(
        encoder,
        encoder=rebuild("encoder", encoder.header["encoder"], initial, ends=(features, latent))[0],
        decoder=rebuild("decoder", encoder.header["decoder"], initial, ends=(latent, features))[0],
        preprocess=encoder.preprocess.to(cpu),
        device=cpu,
        digest="",
    )
