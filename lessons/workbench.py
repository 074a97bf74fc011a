"""Shared parts of the experiments: the digits, a small network, a training loop, and an isolated random state."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn, optim

from lookalike.training.array_types import Floats
from lookalike.training.models.layers import ACTIVATIONS

__all__ = [
    "ACTIVATIONS",
    "Digits",
    "Loss",
    "accuracy",
    "adam",
    "agreement",
    "as_images",
    "autoencoder",
    "batches",
    "cross_entropy",
    "digits",
    "error",
    "fit",
    "isolated",
    "network",
    "squared_error",
    "trained",
]

TEST_ROWS = 360
Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[Tensor, Tensor], Tensor]
squared_error: Loss = nn.functional.mse_loss
cross_entropy: Loss = nn.functional.cross_entropy


@dataclass(frozen=True)
class Digits:
    """Pictures of handwritten digits, (n, 64) float32 in [0, 1], and their labels, (n,) int64."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def digits(seed: int = 0, rows: int | None = None) -> Digits:
    """The 1,797 digits of scikit-learn: 360 test rows drawn by the seed; (`rows` of) the others for training."""
    inputs, labels = _all_digits()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    test, train = order[:TEST_ROWS], order[TEST_ROWS:][:rows]
    return Digits(inputs[train], labels[train], inputs[test], labels[test])


@cache
def _all_digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16.0, dtype=torch.float32), torch.tensor(labels)  # (1797, 64), (1797,)


@contextlib.contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Inside, torch's global generator starts from `seed` and torch has one thread; afterwards both are restored."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def network(*widths: int, activation: str = "relu") -> nn.Sequential:
    """Linear layers of these widths with the activation between them, initialized for it (He, else Glorot)."""
    layers: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        layer = nn.Linear(ins, outs)
        if activation in {"linear", "tanh", "sigmoid"}:
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def autoencoder(latent: int, hidden: int = 128, *, activation: str = "silu") -> nn.Sequential:
    """64 -> hidden -> latent and back; its two parts are the encoder and the decoder."""
    encoder = network(64, hidden, latent, activation=activation)
    return nn.Sequential(encoder, network(latent, hidden, 64, activation=activation))


def batches(count: int, size: int) -> Iterator[Tensor]:
    """The numbers 0 to `count` - 1 once each, shuffled, in parts of about `size`."""
    return iter(torch.randperm(count).tensor_split(math.ceil(count / size)))


def fit(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch: int = 64,
) -> Iterator[int]:
    """Train, and yield the number of each finished epoch, with the model in eval mode for the caller to evaluate."""
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in batches(len(inputs), batch):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        yield epoch


def adam(model: nn.Module, lr: float) -> optim.Adam:
    """Adam, fused: one pass over the weights per step, which is the fastest."""
    return optim.Adam(model.parameters(), lr, fused=True)


def trained(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    lr: float = 2e-3,
    loss: Loss = squared_error,
) -> Model:
    """Return the model in eval mode, after `epochs` epochs of Adam with a rate that falls linearly from `lr` to 0."""
    optimizer = adam(model, lr)
    for epoch in fit(model, optimizer, loss, inputs, targets, epochs=epochs):
        optimizer.param_groups[0]["lr"] = lr * (1 - epoch / epochs)
    return model


@torch.inference_mode()
def error(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The mean squared error over all values; does not change the mode."""
    return float(nn.functional.mse_loss(model(inputs), targets))


@torch.inference_mode()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of the rows whose largest output is that of their label; does not change the mode."""
    return float((model(inputs).argmax(1) == labels).float().mean())


def agreement(items: Tensor, item_labels: Tensor, queries: Tensor, labels: Tensor, *, k: int = 10) -> float:
    """Precision@k: the share of each query's `k` nearest items, by Euclidean distance, that have its label."""
    nearest = torch.cdist(queries, items).topk(k, largest=False).indices  # (queries, k)
    return float((item_labels[nearest] == labels[:, None]).float().mean())


def as_images(rows: Tensor) -> Floats:
    """(n, 64) -> (n, 8, 8), for drawing."""
    return rows.reshape(-1, 8, 8).numpy()
