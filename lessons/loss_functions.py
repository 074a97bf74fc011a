"""Loss functions: three losses on rows with some broken values, and the effect of a sigmoid on the slope."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Curves, Panels, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Loss, adam, autoencoder, digits, error, fit, isolated

__all__ = ["experiment"]

EPOCHS = 25
BROKEN_SHARE, BROKEN_VALUE = 0.01, 10.0
PIXEL = 20
LOSSES: dict[str, Loss] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


def experiment(seed: int = 0) -> Shown:
    """Train on rows with broken values and test on clean rows; then compare the slopes at a confident error."""
    data = digits(seed)
    generator = torch.Generator().manual_seed(seed)
    hit = torch.rand(data.train.shape, generator=generator) < BROKEN_SHARE
    broken = torch.where(hit, BROKEN_VALUE, data.train)  # (n, 64)
    lines = {name: _errors(loss, broken, data.test, seed) for name, loss in LOSSES.items()}
    numbers = {f"mean squared error on clean test rows, trained with {name}": line[-1] for name, line in lines.items()}
    numbers |= _best_constants(data.train[:, PIXEL], broken[:, PIXEL])
    numbers |= {
        "slope at output -8 before the sigmoid for the target 1, mse": _slope(LOSSES["mse"]),
        "slope at output -8 before the sigmoid for the target 1, bce_logits": _slope(None),
    }
    learned = Curves("Rows with 1% broken values", "epoch", "error on clean test rows", by_epoch(lines), log_y=True)
    return Shown(numbers, Panels("The cost of an error, and its effect", [_costs(), learned]))


def _errors(loss: Loss, broken: Tensor, test: Tensor, seed: int) -> list[float]:
    """Train on the broken rows; return the squared error on clean rows after each epoch."""
    with isolated(seed):
        model = autoencoder(16)
        optimizer = adam(model, 5e-3)
        return [error(model, test, test) for _ in fit(model, optimizer, loss, broken, broken, epochs=EPOCHS)]


def _best_constants(pixel: Tensor, broken: Tensor) -> dict[str, float]:
    return {
        "best single number for a broken pixel column, mse": _best_constant(LOSSES["mse"], broken),
        "the column's mean": float(broken.mean()),
        "its mean without the broken values": float(pixel.mean()),
        "best single number for a broken pixel column, mae": _best_constant(LOSSES["mae"], broken),
        "the column's median": float(broken.median()),
        "its median without the broken values": float(pixel.median()),
    }


def _best_constant(loss: Loss, values: Tensor) -> float:
    """The number with the least loss against all values, of 1,001 numbers from 0 to 1."""
    numbers = torch.linspace(0.0, 1.0, 1_001)
    costs = torch.stack([loss(number.expand_as(values), values) for number in numbers])
    return float(numbers[costs.argmin()])


def _slope(loss: Loss | None) -> float:
    """The derivative by the output before the sigmoid; None is binary cross entropy, which includes the sigmoid."""
    logit, target = torch.tensor(-8.0, requires_grad=True), torch.tensor(1.0)
    cost = loss(logit.sigmoid(), target) if loss else nn.functional.binary_cross_entropy_with_logits(logit, target)
    (slope,) = torch.autograd.grad(cost, logit)
    return float(slope)


def _costs() -> Curves:
    errors = torch.linspace(-3.0, 3.0, 61)
    zero = torch.zeros(())
    lines = {name: (errors.tolist(), [float(loss(at, zero)) for at in errors]) for name, loss in LOSSES.items()}
    return Curves("The loss of one value", "output minus target", "loss", lines)
