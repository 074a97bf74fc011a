"""Can the output reach the targets, and do the targets depend on their rows?

An output with a hard edge returns the edge, or values next to it, for many rows and in most columns: 0 for a ReLU, both
ends for a clamp or a scaled tanh. An output without an edge has a least value, too, but only once.
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["reach_of", "target_link"]

ROWS = 256
STRETCHES = (1.0, 10.0, 50.0, -10.0, -50.0)
NEAR = 2e-3
CROWDED, SHARED = 0.03, 0.6
NEIGHBORS = 5


@torch.no_grad()
def reach_of(model: nn.Module, rows: Tensor, target: Tensor) -> dict[str, Any]:
    """Return the facts about the output's range, for real rows and for rows stretched far beyond the data.

    floor, ceiling: the least and the greatest value that the output can have, or None without such an edge.
    beyond: the share of the target values outside of these. fixed_norm: whether all outputs have the same length, and
    the targets do not. widths: of an output and of a target. steps: whether the output takes only a few values.
    """
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        device = next(model.parameters()).device
        some = rows[:: max(1, len(rows) // ROWS)][:ROWS].to(device)
        answers = torch.cat([model(stretch * some).float().flatten(1) for stretch in STRETCHES]).cpu()
    finally:
        for part, was_training in modes:
            part.training = was_training
    wanted = target.float().flatten(1).cpu() if target.ndim > 1 else target.float()[:, None].cpu()
    facts: dict[str, Any] = {"output_width": answers.shape[1], "target_width": wanted.shape[1]}
    if answers.shape[1] != wanted.shape[1] or not bool(torch.isfinite(answers).all()) or target.dtype == torch.int64:
        return facts
    low, high = _edge(answers), _edge(-answers)
    floor, ceiling = low, None if high is None else -high
    slack = 1e-3 * float(wanted.max() - wanted.min())
    outside = torch.zeros_like(wanted, dtype=torch.bool)
    if floor is not None:
        outside |= wanted < floor - slack
    if ceiling is not None:
        outside |= wanted > ceiling + slack
    lengths, wanted_lengths = answers.norm(dim=1), wanted.norm(dim=1)
    return facts | {
        "floor": floor,
        "ceiling": ceiling,
        "beyond": float(outside.double().mean()),
        "fixed_norm": bool(_spread(lengths) < 1e-3 < 0.02 < _spread(wanted_lengths)) and answers.shape[1] > 1,
    }


def _spread(lengths: Tensor) -> float:
    return float(lengths.std() / lengths.mean().clamp_min(1e-12)) if len(lengths) > 1 else 0.0


def _edge(answers: Tensor) -> float | None:
    """(n, width) -> the least value, if many rows share it in most columns, or None."""
    least, most = float(answers.min()), float(answers.max())
    if most - least < 1e-3:
        return None
    near = answers <= least + NEAR * (most - least)  # (n, width)
    exact = answers <= least + 1e-6 * max(1.0, abs(least))
    varies = answers.amax(dim=0) - answers.amin(dim=0) > 0.05 * (most - least)
    for mask, share in ((exact, 2.0 / len(answers)), (near, CROWDED)):
        crowded = (mask.double().mean(dim=0) > share) & varies
        if float(crowded.double().mean()) >= SHARED:
            return least
    return None


def target_link(rows: Tensor, targets: Tensor) -> dict[str, Any] | None:
    """Return how well the nearest other rows predict a target, relative to the targets' variance; and by chance.

    same_rows: whether the targets are the rows themselves in another order.
    """
    if targets.dtype == torch.int64 or len(rows) < 40:
        return None
    x, y = rows.double().flatten(1).cpu(), targets.double().flatten(1).cpu()
    distances = torch.cdist(x, x)
    distances.fill_diagonal_(torch.inf)
    nearest = distances.topk(NEIGHBORS, largest=False).indices  # (n, neighbors)
    predicted = y[nearest].mean(dim=1)
    whole = (y - y.mean(dim=0)).square().mean().clamp_min(1e-30)
    own = x.shape == y.shape and bool((x == y).all())
    moved = x.shape == y.shape and not own and _same_rows(x, y)
    return {"error": float((predicted - y).square().mean() / whole), "same_rows": moved, "own": own}


def _same_rows(x: Tensor, y: Tensor) -> bool:
    return bool(torch.equal(x.sum(dim=1).sort().values, y.sum(dim=1).sort().values))
