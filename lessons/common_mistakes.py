"""The five common mistakes, each beside the right way: same rows, same first weights, one line different."""

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
"""What was measured after each epoch, in the right way and in the wrong one."""


def experiment(seed: int = 0) -> Shown:
    """Make each mistake once."""
    data = digits(seed)
    numbers: dict[str, float] = {}
    parts = []
    for name, (label, make) in MISTAKES.items():
        lines = make(data, seed)
        numbers |= {f"{name}: {label}, {way}": line[-1] for way, line in lines.items()}
        parts.append(Curves(name, "epoch", label, by_epoch(lines)))
    return Shown(numbers, Panels("Five common mistakes", parts))


def not_zeroed(data: Digits, seed: int) -> Lines:
    """`backward` adds to the gradients that are there; without `zero_grad` each step takes all earlier ones again."""
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
    """Cross entropy takes the softmax itself; given one already, it cannot fall below 1.461 with ten classes."""
    ways: dict[str, Loss] = {
        "outputs as they are": cross_entropy,
        "a softmax first": lambda outputs, labels: cross_entropy(outputs.softmax(1), labels),
    }
    lines: Lines = {}
    for name, loss in ways.items():
        with isolated(seed):
            model = network(64, 64, 10)
            done = fit(model, adam(model, 5e-3), loss, data.train, data.train_labels, epochs=12)
            lines[name] = [_test_loss(model, loss, data) for _ in done]
    return lines


@torch.inference_mode()
def _test_loss(model: nn.Module, loss: Loss, data: Digits) -> float:
    return float(loss(model(data.test), data.test_labels))


def wrong_mode(data: Digits, seed: int) -> Lines:
    """One model, asked after `eval()` and after `train()`: dropout goes on blanking values."""
    lines: Lines = {"eval() before asking": [], "left in train()": []}
    with isolated(seed):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
        for _ in fit(model, adam(model, 5e-3), cross_entropy, data.train, data.train_labels, epochs=12):
            for name, mode in zip(lines, (False, True), strict=True):
                model.train(mode)
                lines[name].append(accuracy(model, data.test, data.test_labels))
    return lines


def missing_activations(data: Digits, seed: int) -> Lines:
    """Odd or even? Layers with nothing between them are one layer."""
    labels = data.train_labels % 2, data.test_labels % 2
    kinds = {"relu between the layers": "relu", "nothing between them": "linear"}
    return {name: _accuracies((64, 64, 64, 2), kind, data, labels, seed=seed) for name, kind in kinds.items()}


def deep_sigmoid(data: Digits, seed: int) -> Lines:
    """Eight layers: each sigmoid passes at most a quarter of the gradient on."""
    labels = data.train_labels, data.test_labels
    widths = (64, *[64] * 7, 10)
    return {name: _accuracies(widths, name, data, labels, seed=seed) for name in ("relu", "sigmoid")}


def _accuracies(
    widths: tuple[int, ...], activation: str, data: Digits, labels: tuple[Tensor, Tensor], *, seed: int
) -> list[float]:
    """The share of test rows told right after each epoch; `labels` are those to train and to test with."""
    with isolated(seed):
        model = network(*widths, activation=activation)
        done = fit(model, adam(model, 2e-3), cross_entropy, data.train, labels[0], epochs=12)
        return [accuracy(model, data.test, labels[1]) for _ in done]


MISTAKES = {
    "Gradients not zeroed": ("test loss", not_zeroed),
    "Double softmax": ("test loss", double_softmax),
    "Wrong mode": ("share told right", wrong_mode),
    "Missing activations": ("share told right", missing_activations),
    "Sigmoid in a deep stack": ("share told right", deep_sigmoid),
}
"""The name of each, what is measured, and how it is made."""
