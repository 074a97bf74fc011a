"""Baselines without training: an encoder with random weights, and the descriptor that an encoder reads."""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lookalike.training.array_types import Floats
from lookalike.training.artifact.architecture import rebuild
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.models.descriptors import BLOCK, WithDescriptor

__all__ = ["DescriptorComponents", "descriptor_components", "untrained"]

MOST_FITTED = 10_000


@dataclass(frozen=True)
class DescriptorComponents:
    """The leading principal components of a descriptor; `embed` maps (n, width) raw rows to (n, dim) float32."""

    name: str
    dim: int
    embed: Callable[[Floats], Floats]


def descriptor_components(encoder: Encoder, rows: Floats) -> DescriptorComponents | None:
    """Return as many components as the encoder has numbers, fitted to (n, width) raw rows, an even sample if many.

    None if the encoder reads no descriptor.
    """
    from sklearn.decomposition import PCA

    if not isinstance(layer := encoder.encoder[0], WithDescriptor):
        return None
    layer, preprocess = copy.deepcopy(layer).cpu(), encoder.preprocess.to(torch.device("cpu"))

    def describe(rows: Floats) -> Floats:
        blocks = torch.split(torch.from_numpy(rows), BLOCK)
        described = torch.cat([layer.describe(preprocess.apply(block)) for block in blocks])  # (n, outs)
        return described.nan_to_num(0.0, 0.0, 0.0).numpy()  # rows that are out of float32's range have no direction

    fitted = describe(rows[:: math.ceil(len(rows) / MOST_FITTED)])
    with np.errstate(invalid="ignore"):  # if all rows are the same, shares of the variance are 0 / 0
        pca = PCA(min(encoder.latent_dim, *fitted.shape), random_state=0).fit(fitted)

    def embed(rows: Floats) -> Floats:
        return np.ascontiguousarray(pca.transform(describe(rows)), np.float32)

    return DescriptorComponents(f"gradients, PCA-{pca.n_components_}", int(pca.n_components_), embed)


def untrained(encoder: Encoder, seed: int = 0) -> Encoder:
    """Return the same layers with the initial weights of a training run (He et al. 2015), and the same scaling.

    The descriptor does not change. The encoder is on the CPU, and its digest is empty: no artifact contains it.
    """
    generator = torch.Generator().manual_seed(seed)
    fixed = {f"encoder.{name}": tensor.cpu() for name, tensor in encoder.encoder.named_buffers()}

    def initial(name: str, shape: tuple[int, ...]) -> Tensor:
        if name in fixed:
            return fixed[name]
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
