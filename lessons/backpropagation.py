"""Backpropagation: gradients derived by hand, compared with autograd and with finite differences, in float64."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Curves, Series
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import digits

__all__ = ["by_autograd", "experiment", "hidden_gradients", "hidden_loss", "linear_gradients", "linear_loss"]

ROWS, HIDDEN = 200, 16
STEPS = [10.0**-power for power in range(1, 13)]
Gradients = tuple[Tensor, ...]


def linear_loss(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """mean((x w + b - y)**2); x (n, d), y (n, k), w (d, k), b (k,)."""
    return (x @ w + b - y).square().mean()


def linear_gradients(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Gradients:
    """By hand: the gradients of w (d, k) and of b (k,)."""
    slope = 2 * (x @ w + b - y) / y.numel()  # (n, k): how the loss changes with each output
    return x.T @ slope, slope.sum(0)


def hidden_loss(x: Tensor, y: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """mean((tanh(x w1 + b1) w2 + b2 - y)**2); w1 (d, h), b1 (h,), w2 (h, k), b2 (k,)."""
    return (torch.tanh(x @ w1 + b1) @ w2 + b2 - y).square().mean()


def hidden_gradients(x: Tensor, y: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Gradients:
    """By hand, from the last layer to the first: the gradients of w1, b1, w2, b2."""
    h = torch.tanh(x @ w1 + b1)  # (n, h)
    slope = 2 * (h @ w2 + b2 - y) / y.numel()  # (n, k): how the loss changes with each output
    inner = (slope @ w2.T) * (1 - h.square())  # (n, h): the same for each tanh input; tanh' = 1 - tanh**2
    return x.T @ inner, inner.sum(0), h.T @ slope, slope.sum(0)


def by_autograd(loss: Callable[..., Tensor], x: Tensor, y: Tensor, weights: Gradients) -> Gradients:
    """The same gradients by autograd."""
    tracked = [weight.clone().requires_grad_() for weight in weights]
    return torch.autograd.grad(loss(x, y, *tracked), tracked)


def experiment(seed: int = 0) -> Shown:
    """Compare the three on digits, with finite differences at steps of many sizes."""
    x, y, linear, hidden = _problem(seed)
    of_linear, of_hidden = linear_gradients(x, y, *linear), hidden_gradients(x, y, *hidden)
    forward, central = (_step_errors(x, y, hidden, of_hidden, central=central) for central in (False, True))
    linear_difference = _largest_difference(of_linear, by_autograd(linear_loss, x, y, linear))
    hidden_difference = _largest_difference(of_hidden, by_autograd(hidden_loss, x, y, hidden))
    numbers = {
        "linear regression: largest difference between hand-derived and autograd": linear_difference,
        "one hidden layer: largest difference between hand-derived and autograd": hidden_difference,
        "one hidden layer, along one direction: difference between hand-derived and forward, best step": min(forward),
        "one hidden layer, along one direction: difference between hand-derived and central, best step": min(central),
        "largest value of these gradients": max(float(part.abs().max()) for part in (*of_linear, *of_hidden)),
        "best step of the forward difference": STEPS[forward.index(min(forward))],
        "best step of the central difference": STEPS[central.index(min(central))],
    }
    return Shown(numbers, _curves(forward, central))


def _problem(seed: int) -> tuple[Tensor, Tensor, Gradients, Gradients]:
    """Inputs (n, 64), targets (n, 10), and random weights of both models."""
    data = digits(seed, ROWS)
    generator = torch.Generator().manual_seed(seed)
    linear = _random(((64, 10), (10,)), generator)
    hidden = _random(((64, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,)), generator)
    return data.train.double(), nn.functional.one_hot(data.train_labels, 10).double(), linear, hidden


def _random(shapes: Iterable[tuple[int, ...]], generator: torch.Generator) -> Gradients:
    return tuple(0.3 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def _largest_difference(a_parts: Gradients, b_parts: Gradients) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(a_parts, b_parts, strict=True))


def _step_errors(x: Tensor, y: Tensor, weights: Gradients, gradients: Gradients, *, central: bool) -> list[float]:
    """The error of the finite difference along one direction, for each step size."""
    direction = _random([tuple(weight.shape) for weight in weights], torch.Generator().manual_seed(1))
    exact = sum(float((gradient * part).sum()) for gradient, part in zip(gradients, direction, strict=True))

    def at(step: float) -> float:
        return float(
            hidden_loss(x, y, *(weight + step * part for weight, part in zip(weights, direction, strict=True)))
        )

    slopes = [(at(step) - at(-step)) / (2 * step) if central else (at(step) - at(0.0)) / step for step in STEPS]
    return [abs(slope - exact) for slope in slopes]


def _curves(forward: list[float], central: list[float]) -> Curves:
    series: dict[str, Series] = {
        "forward: (L(w + e) - L(w)) / e": (STEPS, forward),
        "central: (L(w + e) - L(w - e)) / 2e": (STEPS, central),
    }
    title, label = "Too large a step is inexact, too small a step is rounded away", "difference from the exact slope"
    return Curves(title, "step e", label, series, log_x=True, log_y=True)
