"""Latent space: digits as points in a plane, their neighbors, and the points between two of them."""

import torch
from torch import Tensor, nn

from lookalike.lessons.autoencoders import principal_axes
from lookalike.lessons.picture import Panels, Scatter, Tiles
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, agreement, as_images, autoencoder, digits, isolated, trained
from lookalike.training.array_types import Floats

__all__ = ["experiment", "off_the_data"]

PAIRS, STEPS = 300, 7


def experiment(seed: int = 0) -> Shown:
    """Draw the latent space of an autoencoder with 2 dimensions; decode midpoints of an autoencoder with 8."""
    data = digits(seed)
    with isolated(seed):
        plane, large = (trained(autoencoder(size), data.train, data.train, epochs=40, lr=0.01) for size in (2, 8))
        first, second = _pairs(data)
    with torch.inference_mode():
        points = plane[0](data.test)  # (360, 2)
        numbers = _neighbor_precision(data, plane, large) | _between(data, large, first, second)
        tiles = Tiles("From one digit to another", _steps_between(large, first[0], second[0]))
    scatter = Scatter(
        "Test digits in a 2-dimensional latent space", "latent 1", "latent 2", points.numpy(), data.test_labels.numpy()
    )
    return Shown(numbers, Panels("Latent space", [scatter, tiles]))


def _pairs(data: Digits) -> tuple[Tensor, Tensor]:
    """Pairs of test rows that show different digits: (pairs, 64) twice."""
    drawn = torch.randint(len(data.test), (4 * PAIRS, 2))
    apart = drawn[data.test_labels[drawn[:, 0]] != data.test_labels[drawn[:, 1]]][:PAIRS]
    return data.test[apart[:, 0]], data.test[apart[:, 1]]


def _neighbor_precision(data: Digits, plane: nn.Sequential, large: nn.Sequential) -> dict[str, float]:
    axes = principal_axes(data.train - data.train.mean(0), 2)  # (64, 2)
    embeddings = {
        "a 2-dimensional latent space": (plane[0](data.train), plane[0](data.test)),
        "PCA's 2 numbers": (data.train @ axes, data.test @ axes),
        "an 8-dimensional latent space": (large[0](data.train), large[0](data.test)),
    }
    precision = {
        f"precision@10 in {name}": agreement(items, data.train_labels, queries, data.test_labels)
        for name, (items, queries) in embeddings.items()
    }
    shares = torch.bincount(data.train_labels) / len(data.train)  # (10,)
    return {**precision, "precision@10 by chance": float(shares.square().sum())}


def _between(data: Digits, model: nn.Sequential, first: Tensor, second: Tensor) -> dict[str, float]:
    """The distance from the data to the midpoint of two rows, in pixels and in the latent space."""
    encode, decode = model
    rows = {
        "halfway between pixels": (first + second) / 2,
        "halfway in the latent space": decode((encode(first) + encode(second)) / 2),
        "a test digit": data.test,
    }
    return {
        f"distance to the nearest real digit, {name}": off_the_data(part, data.train) for name, part in rows.items()
    }


def off_the_data(rows: Tensor, real: Tensor) -> float:
    """The mean distance of rows (n, width) to the nearest of the real rows."""
    return float(torch.cdist(rows, real).amin(1).mean())


def _steps_between(model: nn.Sequential, a: Tensor, b: Tensor) -> dict[str, Floats]:
    """From row a to row b, each (64,), in equal steps: (steps, 8, 8) in pixels and in the latent space."""
    encode, decode = model
    share = torch.linspace(0.0, 1.0, STEPS)[:, None]  # (steps, 1)
    sequences = {"pixels": a + share * (b - a), "latent": decode(encode(a) + share * (encode(b) - encode(a)))}
    return {name: as_images(sequence) for name, sequence in sequences.items()}
