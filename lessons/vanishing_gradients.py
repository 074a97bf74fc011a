"""Vanishing gradients: the size of a gradient on its way from the last layer to the first, by depth."""

import torch
from torch import nn

from lookalike.lessons.picture import Curves
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, accuracy, cross_entropy, digits, isolated, network, trained

__all__ = ["experiment", "gradient_ratio"]

DEPTHS = (2, 4, 6, 8, 10, 12, 16, 20)
REPORTED = (4, 10, 20)
KINDS = {
    "sigmoid": ("sigmoid", 1.0),
    "tanh": ("tanh", 1.0),
    "relu": ("relu", 1.0),
    "relu, weights doubled": ("relu", 2.0),
}
"""The activation, and the factor on the initial weights."""
ROWS = 256


def experiment(seed: int = 0) -> Shown:
    """One backward pass through fresh networks of increasing depth; then train ten layers."""
    data = digits(seed)
    lines = {name: [gradient_ratio(*kind, depth, data, seed=seed) for depth in DEPTHS] for name, kind in KINDS.items()}
    numbers = {
        f"gradient at the first layer / at the last, {name}, {depth} layers": line[DEPTHS.index(depth)]
        for name, line in lines.items()
        for depth in REPORTED
    }
    for name in ("sigmoid", "tanh", "relu"):
        numbers[f"share of test digits classified correctly, {name}, 10 layers after 10 epochs"] = _trained_accuracy(
            name, data, seed
        )
    series = {name: (DEPTHS, line) for name, line in lines.items()}
    title, label = "How much of a gradient arrives", "gradient at the first layer / at the last"
    return Shown(numbers, Curves(title, "layers", label, series, log_y=True))


def gradient_ratio(activation: str, scale: float, depth: int, data: Digits, *, seed: int) -> float:
    """The norm of the gradient by the first layer's output over that by the last layer's, in a fresh network."""
    with isolated(seed):
        model = network(64, *[64] * (depth - 1), 10, activation=activation)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight *= scale
    first = model[0](data.train[:ROWS])  # (rows, 64)
    last = model[1:](first)  # (rows, 10)
    at_first, at_last = torch.autograd.grad(cross_entropy(last, data.train_labels[:ROWS]), [first, last])
    return float(at_first.norm() / at_last.norm())


def _trained_accuracy(activation: str, data: Digits, seed: int) -> float:
    with isolated(seed):
        model = network(64, *[64] * 9, 10, activation=activation)
        trained(model, data.train, data.train_labels, epochs=10, lr=1e-3, loss=cross_entropy)
        return accuracy(model, data.test, data.test_labels)
