"""Gradients by hand, by autograd and by finite differences are the same."""

import pytest
import torch

from lookalike.lessons.backpropagation import (
    by_autograd,
    hidden_gradients,
    hidden_loss,
    linear_gradients,
    linear_loss,
)
from tests.lessons.conftest import Experiment


def test_hand_derived_gradients_match_autograd(numbers: Experiment) -> None:
    measured = numbers("backpropagation")
    assert measured["linear regression: largest difference between hand-derived and autograd"] < 1e-6
    assert measured["one hidden layer: largest difference between hand-derived and autograd"] < 1e-6
    assert measured["largest value of these gradients"] > 0.1  # so the agreement is not between zeros


def test_a_linear_gradient_as_worked_out_by_hand() -> None:
    x, y, w, b = (torch.tensor(value) for value in ([[2.0]], [[1.0]], [[3.0]], [0.5]))
    of_w, of_b = linear_gradients(x, y, w, b)
    assert (of_w.item(), of_b.item()) == (22.0, 11.0)  # o - y = 5.5: 2 * 5.5 * 2, and 2 * 5.5


@pytest.mark.parametrize("hidden", [1, 5])
def test_gradients_match_for_any_shape(hidden: int) -> None:
    draw = torch.Generator().manual_seed(3)
    shapes = ((7, 4), (7, 3), (4, hidden), (hidden,), (hidden, 3), (3,))
    x, y, *weights = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    actual, expected = hidden_gradients(x, y, *weights), by_autograd(hidden_loss, x, y, tuple(weights))
    assert [part.shape for part in actual] == [weight.shape for weight in weights]
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-6)
    flat = (weights[0][:, :1], weights[1][:1])
    assert linear_loss(x, y[:, :1], *flat).shape == ()


def test_finite_differences_are_close_but_not_exact(numbers: Experiment) -> None:
    measured = numbers("backpropagation")
    forward = measured["one hidden layer, along one direction: difference between hand-derived and forward, best step"]
    central = measured["one hidden layer, along one direction: difference between hand-derived and central, best step"]
    assert central < 1e-9
    assert forward < 1e-6
    assert forward > 100 * central
    assert 1e-7 < measured["best step of the central difference"] < 1e-3
