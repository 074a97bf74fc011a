"""Cut gradients: which matrices a gradient reaches, and which of them move, for four ways to cut its path."""

from collections.abc import Callable

import torch
from torch import Tensor, nn, optim

from lookalike.lessons.picture import Curves
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, cross_entropy, digits, isolated, network

__all__ = ["experiment", "path_of"]

WIDTHS = (64, 64, 32, 64, 10)
CUT = 2
"""Matrices before the cut."""
STEPS, ROWS = 40, 256
PARTS = ("that a gradient reaches", "that the optimizer reads one for", "that move")


def experiment(seed: int = 0) -> Shown:
    """Train the same network for a few steps with each fault, and measure each matrix's gradient and its movement."""
    data = digits(seed)
    paths = {name: path_of(fault, data, seed=seed) for name, fault in FAULTS.items()}
    numbers = {
        f"matrices {what}, {name}": float(sum(value > 0 for value in values))
        for name, path in paths.items()
        for what, values in zip(PARTS, path, strict=True)
    }
    layers = list(range(1, len(WIDTHS)))
    series = {name: (layers, [max(value, 1e-9) for value in moved]) for name, (_, _, moved) in paths.items()}
    return Shown(numbers, Curves("How far each matrix moves", "matrix", "change / size", series, log_y=True))


Fault = tuple[Callable[[Tensor], Tensor], bool, bool, bool]
FAULTS: dict[str, Fault] = {
    "healthy": (lambda hidden: hidden, False, False, True),
    "detached": (lambda hidden: hidden.detach(), False, False, True),
    "frozen": (lambda hidden: hidden, True, False, True),
    "zeroed before the step": (lambda hidden: hidden, False, True, True),
    "missing from the optimizer": (lambda hidden: hidden, False, False, False),
}
"""What happens to the values after two matrices; whether these are frozen, zeroed before the step, and optimized."""


def path_of(fault: Fault, data: Digits, *, seed: int) -> tuple[list[float], list[float], list[float]]:
    """Return, per matrix: the gradient's norm after backward and at the step, and the matrix's relative change."""
    between, frozen, zeroed, optimized = fault
    with isolated(seed):
        model = network(*WIDTHS, activation="relu")
    first, rest = model[: 2 * CUT], model[2 * CUT :]
    first.requires_grad_(not frozen)
    optimizer = optim.SGD([*(first.parameters() if optimized else []), *rest.parameters()], lr=0.1)
    matrices = [part.weight for part in model if isinstance(part, nn.Linear)]
    before = [weights.detach().clone() for weights in matrices]
    for _ in range(STEPS):
        optimizer.zero_grad()
        first.zero_grad()
        cross_entropy(rest(between(first(data.train[:ROWS]))), data.train_labels[:ROWS]).backward()  # type: ignore[no-untyped-call]
        arrived = [_norm(weights.grad) for weights in matrices]
        if zeroed:
            first.zero_grad()
        read = [_norm(weights.grad) for weights in matrices]
        optimizer.step()
    moved = [float((now.detach() - old).norm() / old.norm()) for now, old in zip(matrices, before, strict=True)]
    return arrived, read, moved


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(torch.linalg.vector_norm(gradient))
