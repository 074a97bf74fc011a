"""Activations: is the digit odd? The same network is trained with each activation, and with none."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Curves, Panels, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import (
    ACTIVATIONS,
    Digits,
    accuracy,
    adam,
    cross_entropy,
    digits,
    fit,
    isolated,
    network,
)

__all__ = ["collapsed", "experiment"]

EPOCHS = 12
RATES = (0.002, 0.1)


def experiment(seed: int = 0) -> Shown:
    """Train 64-64-64-2 on "odd or even" with each activation; multiply out the linear network into one matrix."""
    data = digits(seed)
    odd, test_odd = data.train_labels % 2, data.test_labels % 2
    lines: dict[str, list[float]] = {}
    for name in ACTIVATIONS:
        with isolated(seed):
            model = network(64, 64, 64, 2, activation=name)
            optimizer = adam(model, 5e-3)
            done = fit(model, optimizer, cross_entropy, data.train, odd, epochs=EPOCHS)
            lines[name] = [accuracy(model, data.test, test_odd) for _ in done]
            if name == "linear":
                difference = _difference(model, data.test)
    numbers = {f"share of test rows classified correctly, {name}": line[-1] for name, line in lines.items()}
    numbers["largest difference between the three linear layers and one matrix"] = difference
    numbers |= {
        f"share of relu units that are 0 for every row, Adam at {rate}": _dead(rate, data, seed) for rate in RATES
    }
    numbers |= {f"steepest slope of {name}": _steepest(nonlinear()) for name, nonlinear in ACTIVATIONS.items()}
    learned = Curves("Odd or even?", "epoch", "share of test rows classified correctly", by_epoch(lines))
    return Shown(numbers, Panels("Activations", [_shapes(), learned]))


def collapsed(model: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Linear layers without activations, multiplied out: weights (outs, ins) and bias (outs,) of one layer."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    weight: Tensor = layers[0].weight
    bias: Tensor = layers[0].bias
    for layer in layers[1:]:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    return weight, bias


@torch.inference_mode()
def _difference(model: nn.Sequential, rows: Tensor) -> float:
    weight, bias = collapsed(model)
    return float((model(rows) - (rows @ weight.T + bias)).abs().max())


def _dead(rate: float, data: Digits, seed: int) -> float:
    """The share of the second layer's units that are 0 for every row after five epochs: no gradient changes them."""
    with isolated(seed):
        model = network(64, 64, 64, 10)
        for _ in fit(model, adam(model, rate), cross_entropy, data.train, data.train_labels, epochs=5):
            pass
    with torch.inference_mode():
        outputs = model[:4](data.train)  # (n, 64)
    return float((outputs == 0).all(0).float().mean())


def _steepest(activation: nn.Module) -> float:
    places = torch.linspace(-6.0, 6.0, 1_201, requires_grad=True)
    (slopes,) = torch.autograd.grad(activation(places).sum(), places)
    return float(slopes.max())


def _shapes() -> Curves:
    places = torch.linspace(-4.0, 4.0, 81)
    lines = {name: (places.tolist(), nonlinear()(places).tolist()) for name, nonlinear in ACTIVATIONS.items()}
    return Curves("The functions", "input", "output", lines)
