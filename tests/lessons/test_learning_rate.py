"""Gradient descent converges below 2 / the largest curvature and not above; Adam's errors over the rates are a bowl."""

from itertools import pairwise

import pytest
import torch

from lookalike.lessons.learning_rate import RATES, descend, largest_rate
from tests.lessons.conftest import Experiment


def test_the_largest_rate_as_worked_out_by_hand() -> None:
    inputs, targets = torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0], [1.0]])
    assert largest_rate(inputs, targets) == pytest.approx(2 / 25)  # curvature 2 (9 + 16) / 2


def test_one_step_as_worked_out_by_hand() -> None:
    losses = descend(torch.tensor([[1.0]]), torch.tensor([[2.0]]), rate=0.25, steps=1)
    assert losses == [4.0, 1.0]  # from weight 0 to 0 - 0.25 * 2 * (0 - 2) = 1


def test_at_the_largest_rate_it_oscillates_forever() -> None:
    assert descend(torch.tensor([[1.0]]), torch.tensor([[2.0]]), rate=1.0, steps=3) == [4.0, 4.0, 4.0, 4.0]


def test_the_loss_after_rates_that_are_too_low_good_and_too_high(numbers: Experiment) -> None:
    measured = numbers("learning-rate")
    before = measured["loss before the first step"]
    low, good, high = (value for name, value in measured.items() if name.startswith("loss after 60 steps"))
    assert 0.8 * before < low < before
    assert good < 0.5 * before
    assert high > 5 * before


def test_adams_errors_over_the_rates_are_a_bowl(numbers: Experiment) -> None:
    errors = [numbers("learning-rate")[f"autoencoder's test error, Adam at {rate:g}"] for rate in RATES]
    best = errors.index(min(errors))
    assert RATES[best] == 0.01
    assert all(left > right for left, right in pairwise(errors[: best + 1]))
    assert all(left < right for left, right in pairwise(errors[best:]))
    assert max(errors[best - 1], errors[best + 1]) < 2 * errors[best]
    assert min(errors[0], errors[-1]) > 5 * errors[best]
