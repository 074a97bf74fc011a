"""Regularization: a large network on 200 rows with some wrong labels, trained without and with regularization."""

import copy

import torch
from torch import Tensor, nn, optim

from lookalike.lessons.picture import Curves, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import accuracy, cross_entropy, digits, fit, isolated

__all__ = ["experiment"]

ROWS, EPOCHS, BATCH = 200, 60, 40
WRONG = 0.2
"""The share of training labels that are drawn at random, as if labeled in a hurry."""
REGULARIZERS = {"nothing": (0.0, 0.0), "dropout 0.5": (0.5, 0.0), "weight decay 2": (0.0, 2.0)}
"""The share of values that dropout blanks, and AdamW's weight decay."""
Rows = tuple[Tensor, Tensor]
"""Inputs (n, 64) and labels (n,)."""


def experiment(seed: int = 0) -> Shown:
    """Which digit is it? Half of the test rows decide when to stop early; the results are from the other half."""
    data = digits(seed, ROWS)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(10, (ROWS,), generator=generator)
    labels = torch.where(torch.rand(ROWS, generator=generator) < WRONG, drawn, data.train_labels)
    train, validation = (data.train, labels), (data.test[::2], data.test_labels[::2])
    test = (data.test[1::2], data.test_labels[1::2])
    numbers: dict[str, float] = {}
    lines: dict[str, list[float]] = {}
    for name, (dropout, decay) in REGULARIZERS.items():
        with isolated(seed):
            model = _network(dropout)
            lines[name], best = _fit(model, decay, train, validation)
        numbers |= _measure(name, model, train, test)
        if name == "nothing":
            model.load_state_dict(best)
            numbers |= _measure("early stopping", model, train, test)
            stop = {"early stopping": float(lines[name].index(min(lines[name])) + 1)}
    title = f"85,000 weights on {ROWS} rows"
    label = "loss on validation rows"
    return Shown(numbers, Curves(title, "epoch", label, by_epoch(lines), log_y=True, marks=stop))


def _network(dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(256, 10),
    )


def _fit(model: nn.Module, decay: float, train: Rows, validation: Rows) -> tuple[list[float], dict[str, Tensor]]:
    """The validation loss after each epoch, and the weights at the least loss."""
    optimizer = optim.AdamW(model.parameters(), 3e-3, weight_decay=decay, fused=True)
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    for _ in fit(model, optimizer, cross_entropy, *train, epochs=EPOCHS, batch=BATCH):
        losses.append(_loss(model, validation))
        if losses[-1] == min(losses):
            best = copy.deepcopy(model.state_dict())
    return losses, best


@torch.inference_mode()
def _loss(model: nn.Module, rows: Rows) -> float:
    inputs, labels = rows
    return float(cross_entropy(model(inputs), labels))


def _measure(name: str, model: nn.Module, train_rows: Rows, test_rows: Rows) -> dict[str, float]:
    train, test = _loss(model, train_rows), _loss(model, test_rows)
    return {
        f"training loss, {name}": train,
        f"test loss, {name}": test,
        f"gap between them, {name}": test - train,
        f"share of test digits classified correctly, {name}": accuracy(model, *test_rows),
    }
