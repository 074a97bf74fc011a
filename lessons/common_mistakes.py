"""The five common mistakes, each compared with the right way: same rows, same initial weights, one line different."""

import torch
from torch import Tensor, nn, optim

from lookalike.lessons.picture import Curves, Panels, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import (
    Digits,
    Loss,
    accuracy,
    adam,
    batches,
    cross_entropy,
    digits,
    fit,
    isolated,
    network,
)

__all__ = ["MISTAKES", "experiment"]

Lines = dict[str, list[float]]
"""The measurement after each epoch, for the right and for the wrong way."""


def experiment(seed: int = 0) -> Shown:
    """Make each mistake once."""
    data = digits(seed)
    numbers: dict[str, float] = {}
    parts = []
    for name, (label, make) in MISTAKES.items():
        lines = make(data, seed)
        numbers |= {f"{name}: {label}, {variant}": line[-1] for variant, line in lines.items()}
        parts.append(Curves(name, "epoch", label, by_epoch(lines)))
    return Shown(numbers, Panels("Five common mistakes", parts))


def not_zeroed(data: Digits, seed: int) -> Lines:
    """`backward` adds to the existing gradients; without `zero_grad` each step repeats all earlier steps."""
    return {
        "zero_grad before backward": _losses_of_loop(data, seed, zero=True),
        "no zero_grad": _losses_of_loop(data, seed, zero=False),
    }


def _losses_of_loop(data: Digits, seed: int, *, zero: bool) -> list[float]:
    losses = []
    with isolated(seed):
        model = network(64, 64, 10)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for _ in range(12):
            for rows in batches(len(data.train), 64):
                if zero:
                    optimizer.zero_grad()
                loss = cross_entropy(model(data.train[rows]), data.train_labels[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            losses.append(_test_loss(model, cross_entropy, data))
    return losses


def double_softmax(data: Digits, seed: int) -> Lines:
    """Cross entropy applies a softmax itself; after a second softmax it cannot fall below 1.461 with ten classes."""
    losses: dict[str, Loss] = {
        "raw outputs": cross_entropy,
        "a softmax first": lambda outputs, labels: cross_entropy(outputs.softmax(1), labels),
    }
    lines: Lines = {}
    for name, loss in losses.items():
        with isolated(seed):
            model = network(64, 64, 10)
            done = fit(model, adam(model, 5e-3), loss, data.train, data.train_labels, epochs=12)
            lines[name] = [_test_loss(model, loss, data) for _ in done]
    return lines


@torch.inference_mode()
def _test_loss(model: nn.Module, loss: Loss, data: Digits) -> float:
    return float(loss(model(data.test), data.test_labels))


def wrong_mode(data: Digits, seed: int) -> Lines:
    """Evaluate one model after `eval()` and after `train()`, in which dropout still blanks values."""
    lines: Lines = {"eval() first": [], "left in train()": []}
    with isolated(seed):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
        for _ in fit(model, adam(model, 5e-3), cross_entropy, data.train, data.train_labels, epochs=12):
            for name, mode in zip(lines, (False, True), strict=True):
                model.train(mode)
                lines[name].append(accuracy(model, data.test, data.test_labels))
    return lines


def missing_activations(data: Digits, seed: int) -> Lines:
    """Odd or even? Layers without activations between them are one layer."""
    labels = data.train_labels % 2, data.test_labels % 2
    kinds = {"relu between the layers": "relu", "no activations": "linear"}
    return {name: _accuracies((64, 64, 64, 2), kind, data, labels, seed=seed) for name, kind in kinds.items()}


def deep_sigmoid(data: Digits, seed: int) -> Lines:
    """Eight layers: each sigmoid passes on at most a quarter of the gradient."""
    labels = data.train_labels, data.test_labels
    widths = (64, *[64] * 7, 10)
    return {name: _accuracies(widths, name, data, labels, seed=seed) for name in ("relu", "sigmoid")}


def _accuracies(
    widths: tuple[int, ...], activation: str, data: Digits, labels: tuple[Tensor, Tensor], *, seed: int
) -> list[float]:
    """The share of test rows classified correctly after each epoch; `labels` are for training and for testing."""
    with isolated(seed):
        model = network(*widths, activation=activation)
        done = fit(model, adam(model, 2e-3), cross_entropy, data.train, labels[0], epochs=12)
        return [accuracy(model, data.test, labels[1]) for _ in done]


MISTAKES = {
    "Gradients not zeroed": ("test loss", not_zeroed),
    "Double softmax": ("test loss", double_softmax),
    "Wrong mode": ("share classified correctly", wrong_mode),
    "Missing activations": ("share classified correctly", missing_activations),
    "Sigmoid in a deep stack": ("share classified correctly", deep_sigmoid),
}
"""The name of each mistake, its measurement, and the function that makes it."""
