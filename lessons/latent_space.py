"""Latent space: digits as points of a plane, who their neighbours are, and what lies between two of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lookalike.lessons.autoencoders import principal_axes
from lookalike.lessons.picture import Panels, Scatter, Tiles
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, agreement, as_images, autoencoder, digits, isolated, trained

__all__ = ["experiment", "off_the_data"]

PAIRS, WAY = 300, 7


def experiment(seed: int = 0) -> Shown:
    """An autoencoder with a latent of 2 to look at, and one of 8 whose midpoints are decoded."""
    data = digits(seed)
    with isolated(seed):
        plane, roomy = (trained(autoencoder(size), data.train, data.train, epochs=40, lr=0.01) for size in (2, 8))
        first, second = _pairs(data)
    with torch.inference_mode():
        points = plane[0](data.test)  # (360, 2)
        numbers = _neighbours(data, plane, roomy) | _between(data, roomy, first, second)
        tiles = Tiles("From one digit to another", _way(roomy, first[0], second[0]))
    scatter = Scatter("Test digits in a latent of 2", "latent 1", "latent 2", points.numpy(), data.test_labels.numpy())
    return Shown(numbers, Panels("Latent space", [scatter, tiles]))


def _pairs(data: Digits) -> tuple[Tensor, Tensor]:
    """Test rows that show different digits, pair by pair: (pairs, 64) twice."""
    drawn = torch.randint(len(data.test), (4 * PAIRS, 2))
    apart = drawn[data.test_labels[drawn[:, 0]] != data.test_labels[drawn[:, 1]]][:PAIRS]
    return data.test[apart[:, 0]], data.test[apart[:, 1]]


def _neighbours(data: Digits, plane: nn.Sequential, roomy: nn.Sequential) -> dict[str, float]:
    axes = principal_axes(data.train - data.train.mean(0), 2)  # (64, 2)
    places = {
        "a latent of 2": (plane[0](data.train), plane[0](data.test)),
        "PCA's 2 numbers": (data.train @ axes, data.test @ axes),
        "a latent of 8": (roomy[0](data.train), roomy[0](data.test)),
    }
    told = {
        f"precision@10 in {name}": agreement(items, data.train_labels, queries, data.test_labels)
        for name, (items, queries) in places.items()
    }
    shares = torch.bincount(data.train_labels) / len(data.train)  # (10,)
    return {**told, "precision@10 by chance": float(shares.square().sum())}


def _between(data: Digits, model: nn.Sequential, first: Tensor, second: Tensor) -> dict[str, float]:
    """How far from the data the middle of two rows is, in pixels and in the latent space."""
    encode, decode = model
    rows = {
        "halfway between pixels": (first + second) / 2,
        "halfway in the latent": decode((encode(first) + encode(second)) / 2),
        "a test digit": data.test,
    }
    return {
        f"distance to the nearest real digit, {name}": off_the_data(part, data.train) for name, part in rows.items()
    }


def off_the_data(rows: Tensor, real: Tensor) -> float:
    """The mean distance of rows (n, width) to the nearest of the real ones."""
    return float(torch.cdist(rows, real).amin(1).mean())


def _way(model: nn.Sequential, a: Tensor, b: Tensor) -> dict[str, NDArray[np.float32]]:
    """From row a to row b, each (64,), in equal steps: (steps, 8, 8) in pixels and in the latent space."""
    encode, decode = model
    share = torch.linspace(0.0, 1.0, WAY)[:, None]  # (steps, 1)
    ways = {"pixels": a + share * (b - a), "latent": decode(encode(a) + share * (encode(b) - encode(a)))}
    return {name: as_images(way) for name, way in ways.items()}
