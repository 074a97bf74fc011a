"""Can the output reach the targets, and do the targets depend on their rows?

What follows the last layer decides what a model can return. If the last layer's values are made a hundred and a
thousand times as large, in both directions, a linear output grows with them; a ReLU stays above 0, a clamp or a tanh
between its ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.training.models.layers import Weighted

__all__ = ["reach_of", "target_link"]

ROWS = 128
FACTORS = (1.0, -1.0, 100.0, -100.0, 1000.0, -1000.0)
GROWTH, REACTS = 1.05, 1e-3
SAME_LENGTH, OTHER_LENGTHS = 1e-3, 0.02
NEIGHBORS, FEWEST, RIDGE = 5, 40, 1e-2


@torch.no_grad()
def reach_of(model: nn.Module, rows: Tensor, target: Tensor) -> dict[str, Any]:
    """Return the facts about the output's range, measured with the last layer's values stretched.

    output_width, target_width: the values of an output and of a target. floor, ceiling: the least and the greatest
    value of the output, or None if it has no such edge. beyond: the share of the target values outside of their
    column's edges. fixed_norm: whether all outputs have the same length, and the targets do not.
    """
    some = rows[:: max(1, len(rows) // ROWS)][:ROWS].to(next(model.parameters()).device)
    with _stretching(model, some) as stretched:
        answers = [stretched(factor) for factor in FACTORS]
    wanted = target.float().flatten(1).cpu() if target.ndim > 1 else target.float()[:, None].cpu()
    facts: dict[str, Any] = {"output_width": answers[0].shape[1], "target_width": wanted.shape[1]}
    every = torch.stack(answers)  # (factors, n, width)
    if every.shape[2] != wanted.shape[1] or target.dtype == torch.int64 or not bool(torch.isfinite(every).all()):
        return facts
    reacts = (every - every[0]).abs().amax(dim=(0, 1)) > REACTS * (wanted.amax() - wanted.amin())  # (width,)
    ceiling, floor = _ceiling(every, reacts), -_ceiling(-every, reacts)
    slack = 1e-3 * float(wanted.max() - wanted.min())
    outside = (wanted < floor - slack) | (wanted > ceiling + slack)
    lengths = every[2:].norm(dim=2).flatten()
    return facts | {
        "floor": _edge(floor),
        "ceiling": _edge(ceiling),
        "beyond": float(outside.double().mean()),
        "fixed_norm": bool(reacts.any()) and _is_fixed(lengths, wanted),
    }


def _ceiling(every: Tensor, reacts: Tensor) -> Tensor:
    """(width,): the greatest value of each column; infinity if it grows with the last layer or does not react."""
    small, large = every[2:4].amax(dim=(0, 1)), every[4:6].amax(dim=(0, 1))
    size = torch.maximum(small.abs(), every[:4].abs().amax(dim=(0, 1)).clamp(max=1.0))
    bounded = (large <= small + (GROWTH - 1) * size) & reacts
    return torch.where(bounded, torch.maximum(large, every[:2].amax(dim=(0, 1))), torch.inf)


def _edge(edges: Tensor) -> float | None:
    finite = edges[torch.isfinite(edges)]
    return float(finite.median()) if len(finite) else None


def _is_fixed(lengths: Tensor, wanted: Tensor) -> bool:
    """Whether all outputs have one length, and the targets, (n, width) of more than one column, do not."""
    return wanted.shape[1] > 1 and _varies(lengths) < SAME_LENGTH < OTHER_LENGTHS < _varies(wanted.norm(dim=1))


def _varies(lengths: Tensor) -> float:
    return float(lengths.std() / lengths.mean().clamp_min(1e-12)) if len(lengths) > 1 else 0.0


@contextmanager
def _stretching(model: nn.Module, rows: Tensor) -> Iterator[Any]:
    """Yield a function from a factor on the last layer's values to the output, (n, width), in eval mode."""
    modes = [(part, part.training) for part in model.modules()]
    layers = [part for part in model.modules() if isinstance(part, Weighted)]
    called: list[nn.Module] = []
    factor = [1.0]

    def on_forward(part: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        called.append(part)
        return factor[0] * output if len(called) == count[0] else None

    def stretched(by: float) -> Tensor:
        called.clear()
        factor[0] = by
        answer: Tensor = model(rows)
        return answer.float().flatten(1).cpu()

    count = [0]
    handles = [layer.register_forward_hook(on_forward) for layer in layers]
    model.eval()
    try:
        stretched(1.0)
        count[0] = len(called)
        yield stretched
    finally:
        for part, was_training in modes:
            part.training = was_training
        for handle in handles:
            handle.remove()


def target_link(rows: Tensor, targets: Tensor) -> dict[str, Any] | None:
    """Return how well other rows predict a target, the nearest ones or a linear map: the least error, relative to the
    targets' variance.

    same_rows: whether the targets are the rows themselves in another order. None for classes and for few rows.
    """
    if targets.dtype == torch.int64 or len(rows) < FEWEST:
        return None
    x, y = rows.double().flatten(1).cpu(), targets.double().flatten(1).cpu()
    distances = torch.cdist(x, x)
    distances.fill_diagonal_(torch.inf)
    nearest = distances.topk(NEIGHBORS, largest=False).indices  # (n, neighbors)
    whole = (y - y.mean(dim=0)).square().mean().clamp_min(1e-30)
    errors = (y[nearest].mean(dim=1) - y).square().mean() / whole, _linear_error(x, y)
    moved = x.shape == y.shape and not bool((x == y).all()) and _same_rows(x, y)
    return {"error": min(map(float, errors)), "same_rows": moved}


def _linear_error(x: Tensor, y: Tensor) -> Tensor:
    """The relative error, on every second row, of the linear map that fits the others best."""
    x, y = (part - part[::2].mean(dim=0) for part in (x, y))
    scale = x[::2].square().mean().clamp_min(1e-12)
    inner = x[::2] @ x[::2].T + RIDGE * scale * torch.eye(len(x[::2]), dtype=x.dtype)
    predicted = x[1::2] @ x[::2].T @ torch.linalg.solve(inner, y[::2])
    error: Tensor = (predicted - y[1::2]).square().mean() / y[1::2].square().mean().clamp_min(1e-30)
    return error


def _same_rows(x: Tensor, y: Tensor) -> bool:
    return bool(torch.equal(x.sum(dim=1).sort().values, y.sum(dim=1).sort().values))
