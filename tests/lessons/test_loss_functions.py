"""Outliers change a mean but not a median; a sigmoid flattens a squared error but not a cross entropy."""

import math

import pytest

from lookalike.lessons.loss_functions import LOSSES
from tests.lessons.conftest import Experiment


def test_broken_values_affect_a_squared_error_most(numbers: Experiment) -> None:
    measured = numbers("loss-functions")
    mse, mae, huber = (measured[f"mean squared error on clean test rows, trained with {name}"] for name in LOSSES)
    assert list(LOSSES) == ["mse", "mae", "huber"]
    assert mse > 1.5 * huber
    assert huber > 1.1 * mae


def test_the_best_constants_are_the_mean_and_the_median(numbers: Experiment) -> None:
    measured = numbers("loss-functions")
    best = "best single number for a broken pixel column"
    assert measured[f"{best}, mse"] == pytest.approx(measured["the column's mean"], abs=0.001)
    assert measured[f"{best}, mae"] == pytest.approx(measured["the column's median"], abs=0.001)
    assert measured["the column's mean"] > measured["its mean without the broken values"] + 0.05
    assert measured["the column's median"] == measured["its median without the broken values"]


def test_the_slope_at_a_confident_error(numbers: Experiment) -> None:
    measured = numbers("loss-functions")
    p = 1 / (1 + math.exp(8))
    name = "slope at output -8 before the sigmoid for the target 1"
    assert measured[f"{name}, mse"] == pytest.approx(2 * (p - 1) * p * (1 - p), rel=1e-4)
    assert measured[f"{name}, bce_logits"] == pytest.approx(p - 1, rel=1e-4)
    assert measured[f"{name}, bce_logits"] / measured[f"{name}, mse"] == pytest.approx(1_500, rel=0.02)
