"""What a denoising autoencoder must undo. A corruption is handed to the loop; it is no subclass.

P. Vincent et al., "Stacked Denoising Autoencoders", JMLR 11 (2010), sections 3.2 and 5.4.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from training.config import CorruptionConfig
from training.errors import ConfigError
from training.preprocess import Preprocessor

__all__ = ["CORRUPTIONS", "Corruption", "build_corruption"]

Corruption = Callable[[Tensor, Generator], Tensor]
"""(n, width) clean, preprocessed -> (n, width) corrupted; the input is left as it is."""


def gaussian(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Add normal noise whose standard deviation is drawn per row from [0, level) noise units."""
    noise = _normal_like(clean, generator)
    noise *= scaling.noise_unit
    noise *= torch.rand(len(clean), 1, generator=generator, device=clean.device) * level  # (n, 1)
    return torch.clamp(noise.add_(clean), scaling.low, scaling.high)


def masking(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Set a share `level` of the values to the least value of their column."""
    return torch.where(_uniform_like(clean, generator) < level, scaling.low, clean)


def salt_and_pepper(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Set a share `level` of the values to their column's least or greatest value, half of them each."""
    draw = _uniform_like(clean, generator)
    salted = torch.where(draw < level / 2, scaling.low, clean)
    return torch.where((draw >= level / 2) & (draw < level), scaling.high, salted)


CORRUPTIONS = {"gaussian": gaussian, "masking": masking, "salt_and_pepper": salt_and_pepper}


def build_corruption(config: CorruptionConfig, scaling: Preprocessor) -> Corruption | None:
    """The configured corruption, or None for a standard autoencoder.

    Raises:
        ConfigError: a share above 1.
    """
    if config.kind == "none":
        return None
    if config.kind != "gaussian" and config.level > 1:
        raise ConfigError("corruption.level", expected="a share of values, at most 1", found=str(config.level))
    corrupt = CORRUPTIONS[config.kind]
    return lambda clean, generator: corrupt(clean, generator, config.level, scaling)


def _normal_like(rows: Tensor, generator: Generator) -> Tensor:
    return torch.randn(rows.shape, generator=generator, device=rows.device)


def _uniform_like(rows: Tensor, generator: Generator) -> Tensor:
    return torch.rand(rows.shape, generator=generator, device=rows.device)
