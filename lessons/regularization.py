"""Regularization: a large network on 200 rows with some wrong labels, as it is and held back in three ways."""

import copy

import torch
from torch import Tensor, nn, optim

from lookalike.lessons.picture import Curves, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import accuracy, cross_entropy, digits, fit, isolated

__all__ = ["experiment"]

ROWS, EPOCHS, BATCH = 200, 60, 40
WRONG = 0.2
"""The share of training labels that are drawn at random, as where people label in a hurry."""
HELD_BACK = {"nothing": (0.0, 0.0), "dropout 0.5": (0.5, 0.0), "weight decay 2": (0.0, 2.0)}
"""What holds the network back: the share of values that dropout blanks, and AdamW's weight decay."""
Rows = tuple[Tensor, Tensor]
"""Inputs (n, 64) and labels (n,)."""


def experiment(seed: int = 0) -> Shown:
    """Which digit is it? Half of the test rows choose where to stop early, the other half are reported on."""
    data = digits(seed, ROWS)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(10, (ROWS,), generator=generator)
    labels = torch.where(torch.rand(ROWS, generator=generator) < WRONG, drawn, data.train_labels)
    seen, watched = (data.train, labels), (data.test[::2], data.test_labels[::2])
    asked = (data.test[1::2], data.test_labels[1::2])
    numbers: dict[str, float] = {}
    lines: dict[str, list[float]] = {}
    for name, (dropout, decay) in HELD_BACK.items():
        with isolated(seed):
            model = _network(dropout)
            lines[name], best = _fit(model, decay, seen, watched)
        numbers |= _told(name, model, seen, asked)
        if name == "nothing":
            model.load_state_dict(best)
            numbers |= _told("early stopping", model, seen, asked)
            stop = {"early stopping": float(lines[name].index(min(lines[name])) + 1)}
    title = f"85,000 weights on {ROWS} rows"
    label = "loss on rows it has not seen"
    return Shown(numbers, Curves(title, "epoch", label, by_epoch(lines), log_y=True, marks=stop))


def _network(dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(256, 10),
    )


def _fit(model: nn.Module, decay: float, seen: Rows, watched: Rows) -> tuple[list[float], dict[str, Tensor]]:
    """The loss on the watched rows after each epoch, and the weights when it was least."""
    optimizer = optim.AdamW(model.parameters(), 3e-3, weight_decay=decay, fused=True)
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    for _ in fit(model, optimizer, cross_entropy, *seen, epochs=EPOCHS, batch=BATCH):
        losses.append(_loss(model, watched))
        if losses[-1] == min(losses):
            best = copy.deepcopy(model.state_dict())
    return losses, best


@torch.inference_mode()
def _loss(model: nn.Module, rows: Rows) -> float:
    inputs, labels = rows
    return float(cross_entropy(model(inputs), labels))


def _told(name: str, model: nn.Module, seen: Rows, asked: Rows) -> dict[str, float]:
    train, test = _loss(model, seen), _loss(model, asked)
    return {
        f"training loss, {name}": train,
        f"test loss, {name}": test,
        f"gap between them, {name}": test - train,
        f"share of test digits told right, {name}": accuracy(model, *asked),
    }
