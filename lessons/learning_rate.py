"""Gradient descent: a problem whose largest learning rate is known, and a problem for which it must be tried."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Curves, Panels, Series
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import adam, autoencoder, digits, error, fit, isolated, squared_error

__all__ = ["descend", "experiment", "largest_rate"]

STEPS = 60
SHARES = {"too low: 0.01 of the limit": 0.01, "good: 0.9 of the limit": 0.9, "too high: 1.02 of the limit": 1.02}
RATES = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def experiment(seed: int = 0) -> Shown:
    """Linear regression below and above its limit; then an autoencoder with Adam at learning rates of all sizes."""
    data = digits(seed)
    targets = nn.functional.one_hot(data.train_labels, 10).float()  # (n, 10)
    limit = largest_rate(data.train, targets)
    lines = {name: descend(data.train, targets, share * limit) for name, share in SHARES.items()}
    numbers = {
        "the limit: 2 / the largest curvature": limit,
        "loss before the first step": float(targets.square().mean()),
    }
    numbers |= {f"loss after {STEPS} steps, {name}": line[-1] for name, line in lines.items()}
    errors = [_after_adam(rate, data.train, data.test, seed) for rate in RATES]
    numbers |= {f"autoencoder's test error, Adam at {rate:g}": cost for rate, cost in zip(RATES, errors, strict=True)}
    steps: dict[str, Series] = {name: (range(STEPS + 1), line) for name, line in lines.items()}
    known = Curves("Linear regression: the limit is known", "step", "training loss", steps, log_y=True)
    swept: dict[str, Series] = {"after 5 epochs": (RATES, errors)}
    tried = Curves("Autoencoder, Adam: try them", "learning rate", "test error", swept, log_x=True, log_y=True)
    return Shown(numbers, Panels("The size of a step", [known, tried]))


def largest_rate(inputs: Tensor, targets: Tensor) -> float:
    """2 / the largest eigenvalue of the second derivative of mean((inputs @ W - targets)**2) by W."""
    curvature = 2 * inputs.T @ inputs / targets.numel()  # (64, 64)
    return float(2 / torch.linalg.eigvalsh(curvature)[-1])


def descend(inputs: Tensor, targets: Tensor, rate: float, steps: int = STEPS) -> list[float]:
    """Gradient descent from zero weights: the loss before each step, and after the last."""
    weights = torch.zeros(inputs.shape[1], targets.shape[1])
    losses = []
    for _ in range(steps + 1):
        errors = inputs @ weights - targets  # (n, 10)
        losses.append(float(errors.square().mean()))
        weights = weights - rate * 2 * inputs.T @ errors / errors.numel()  # (64, 10)
    return losses


def _after_adam(rate: float, train: Tensor, test: Tensor, seed: int) -> float:
    with isolated(seed):
        model = autoencoder(8)
        for _ in fit(model, adam(model, rate), squared_error, train, train, epochs=5):
            pass
        return error(model, test, test)
