"""Optimizers: five ways to follow the same gradient, and the effect of weight decay in two of them."""

from collections.abc import Callable, Iterable

from torch import nn, optim

from lookalike.lessons.picture import Curves, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, autoencoder, digits, error, fit, isolated

__all__ = ["OPTIMIZERS", "decayed", "experiment"]

EPOCHS = 20
Build = Callable[[Iterable[nn.Parameter]], optim.Optimizer]
OPTIMIZERS: dict[str, Build] = {
    "sgd, 0.3": lambda weights: optim.SGD(weights, 0.3, fused=True),
    "sgd with momentum, 0.1": lambda weights: optim.SGD(weights, 0.1, momentum=0.9, fused=True),
    "sgd with nesterov, 0.1": lambda weights: optim.SGD(weights, 0.1, momentum=0.9, nesterov=True, fused=True),
    "adam, 0.01": lambda weights: optim.Adam(weights, 0.01, fused=True),
    "adamw, 0.01": lambda weights: optim.AdamW(weights, 0.01, weight_decay=0.01, fused=True),
}
"""Each has the best of the rates 0.001, 0.003, 0.01, ... 1 that did not diverge with any of three seeds."""
DARK_PIXEL = 0
"""The first pixel is 0 in every digit, so the gradient of its weights is 0: only decay changes them."""
DECAY, DECAY_RATE = 0.01, 0.01


def experiment(seed: int = 0) -> Shown:
    """Train the same autoencoder with each; then decay the weights of a dark pixel with Adam and with AdamW."""
    data = digits(seed)
    lines = {name: _errors(build, data, seed) for name, build in OPTIMIZERS.items()}
    numbers = {f"test error after {EPOCHS} epochs, {name}": line[-1] for name, line in lines.items()}
    for name, kind in (("adam", optim.Adam), ("adamw", optim.AdamW)):
        remaining, steps = decayed(kind, data, seed)
        numbers[f"weights of a dark pixel: share left by weight_decay {DECAY}, {name}"] = remaining
    numbers["(1 - lr * weight_decay) ** steps"] = (1 - DECAY_RATE * DECAY) ** steps
    return Shown(numbers, Curves("Five optimizers", "epoch", "test error", by_epoch(lines), log_y=True))


def _errors(build: Build, data: Digits, seed: int) -> list[float]:
    with isolated(seed):
        model = autoencoder(8)
        done = fit(model, build(model.parameters()), nn.functional.mse_loss, data.train, data.train, epochs=EPOCHS)
        return [error(model, data.test, data.test) for _ in done]


def decayed(kind: type[optim.Adam], data: Digits, seed: int) -> tuple[float, int]:
    """The norm of the dark pixel's weights after five epochs, relative to the initial norm, and the number of steps."""
    with isolated(seed):
        model = autoencoder(8)
        weights = next(model.parameters())  # (hidden, 64)
        before = float(weights[:, DARK_PIXEL].detach().norm())
        optimizer = kind(model.parameters(), DECAY_RATE, weight_decay=DECAY, fused=True)
        for _ in fit(model, optimizer, nn.functional.mse_loss, data.train, data.train, epochs=5):
            pass
    steps = int(optimizer.state[weights]["step"])
    return float(weights[:, DARK_PIXEL].detach().norm()) / before, steps
