"""Three pillars: one autoencoder is trained well, then with one pillar at a time replaced."""

from collections.abc import Callable

import torch
from torch import Tensor, nn, optim

from lookalike.lessons.picture import Curves, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Loss, adam, autoencoder, digits, error, fit, isolated

__all__ = ["experiment"]

EPOCHS = 25
Build = Callable[[nn.Module], optim.Optimizer]
SQUARED, ABSOLUTE = nn.functional.mse_loss, nn.functional.l1_loss
RUNS: dict[str, tuple[str, Loss, Build]] = {
    "silu, squared error, Adam": ("silu", SQUARED, lambda model: adam(model, 0.005)),
    "different model: no activations": ("linear", SQUARED, lambda model: adam(model, 0.005)),
    "different loss: absolute error": ("silu", ABSOLUTE, lambda model: adam(model, 0.005)),
    "different optimizer: plain SGD": ("silu", SQUARED, lambda model: optim.SGD(model.parameters(), 0.1)),
}
"""The model's activation, the loss and the optimizer of each run."""


def experiment(seed: int = 0) -> Shown:
    """Train each run on the same rows for the same number of steps; only the named pillar differs."""
    data = digits(seed)
    squared: dict[str, list[float]] = {}
    numbers: dict[str, float] = {}
    for name, (activation, loss, optimizer) in RUNS.items():
        with isolated(seed):
            model = autoencoder(8, activation=activation)
            done = fit(model, optimizer(model), loss, data.train, data.train, epochs=EPOCHS)
            squared[name] = [error(model, data.test, data.test) for _ in done]
        numbers[f"mean squared test error, {name}"] = squared[name][-1]
        numbers[f"mean absolute test error, {name}"] = _absolute(model, data.test)
    curves = Curves("One pillar replaced at a time", "epoch", "mean squared test error", by_epoch(squared), log_y=True)
    return Shown(numbers, curves)


@torch.inference_mode()
def _absolute(model: nn.Module, rows: Tensor) -> float:
    return float(ABSOLUTE(model(rows), rows))
