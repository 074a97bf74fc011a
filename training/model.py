"""Pillar one: the autoencoder, a multilayer perceptron and its mirror image."""

from itertools import pairwise

from torch import Tensor, nn

from training.config import ModelConfig

__all__ = ["ACTIVATIONS", "Autoencoder", "latent_dim_for"]

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
"""Those that want He's initialisation."""


class Autoencoder(nn.Module):
    """width -> hidden -> latent -> hidden mirrored -> width."""

    def __init__(self, width: int, latent_dim: int, config: ModelConfig) -> None:
        super().__init__()
        widths = [width, *config.hidden, latent_dim]
        self.encoder = _stack(widths, config, output="linear")
        self.decoder = _stack(widths[::-1], config, output=config.output)

    def forward(self, rows: Tensor) -> Tensor:
        latent = self.encoder(rows)  # (batch, width) -> (batch, latent)
        output: Tensor = self.decoder(latent)  # (batch, latent) -> (batch, width)
        return output


def latent_dim_for(width: int, config: ModelConfig) -> int:
    """The configured dimension, or for "auto" a quarter of the columns within [2, 32]."""
    if config.latent_dim == "auto":
        return min(32, max(2, width // 4))
    return config.latent_dim


def _stack(widths: list[int], config: ModelConfig, output: str) -> nn.Sequential:
    """Linear layers with the configured activation between them and `output` at the end."""
    layers: list[nn.Module] = []
    for number, (ins, outs) in enumerate(pairwise(widths), start=1):
        last = number == len(widths) - 1
        layers.append(_linear(ins, outs, output if last else config.activation))
        if last:
            layers.append(ACTIVATIONS[output]())
            continue
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(outs))
        layers.append(ACTIVATIONS[config.activation]())
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
    return nn.Sequential(*layers)


def _linear(ins: int, outs: int, activation: str) -> nn.Linear:
    """Initialised as the activation that follows asks.

    He et al. 2015 for the rectifiers (GELU and SiLU among them), Glorot and Bengio 2010 for the others.
    """
    layer = nn.Linear(ins, outs)
    if activation in _RECTIFIERS:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
