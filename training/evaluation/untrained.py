"""An encoder of the same architecture that learnt nothing: what a trained one must be better than."""

import dataclasses
import math

import torch
from torch import Tensor

from lookalike.training.artifact.architecture import rebuild
from lookalike.training.artifact.encoder import Encoder

__all__ = ["untrained"]


def untrained(encoder: Encoder, seed: int = 0) -> Encoder:
    """The same layers with weights drawn as a training run begins with them (He et al. 2015), and the same scaling.

    It is on the CPU, and its digest is empty: no artifact holds it.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("bias"):
            return torch.zeros(shape)
        reach = math.sqrt(6 / math.prod(shape[1:]))
        return (2 * torch.rand(shape, generator=generator) - 1) * reach

    features, latent = encoder.preprocess.features, encoder.latent_dim
    cpu = torch.device("cpu")
    return dataclasses.replace(
        encoder,
        encoder=rebuild("encoder", encoder.header["encoder"], drawn, ends=(features, latent))[0],
        decoder=rebuild("decoder", encoder.header["decoder"], drawn, ends=(latent, features))[0],
        preprocess=encoder.preprocess.to(cpu),
        device=cpu,
        digest="",
    )
