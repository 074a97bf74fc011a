"""Outliers drag a mean and leave a median; a sigmoid flattens a squared error and not a cross entropy."""

import math

import pytest

from lookalike.lessons.loss_functions import LOSSES
from tests.lessons.conftest import Experiment


def test_broken_values_hurt_a_squared_error_most(numbers: Experiment) -> None:
    told = numbers("loss-functions")
    mse, mae, huber = (told[f"mean squared error on clean test rows, trained with {name}"] for name in LOSSES)
    assert list(LOSSES) == ["mse", "mae", "huber"]
    assert mse > 1.5 * huber
    assert huber > 1.1 * mae


def test_the_best_constants_are_the_mean_and_the_median(numbers: Experiment) -> None:
    told = numbers("loss-functions")
    best = "best single number for a broken pixel column"
    assert told[f"{best}, mse"] == pytest.approx(told["the column's mean"], abs=0.001)
    assert told[f"{best}, mae"] == pytest.approx(told["the column's median"], abs=0.001)
    assert told["the column's mean"] > told["its mean without the broken values"] + 0.05
    assert told["the column's median"] == told["its median without the broken values"]


def test_the_slope_at_a_confident_mistake(numbers: Experiment) -> None:
    told = numbers("loss-functions")
    p = 1 / (1 + math.exp(8))
    where = "slope at output -8 before the sigmoid where the target is 1"
    assert told[f"{where}, mse"] == pytest.approx(2 * (p - 1) * p * (1 - p), rel=1e-4)
    assert told[f"{where}, bce_logits"] == pytest.approx(p - 1, rel=1e-4)
    assert told[f"{where}, bce_logits"] / told[f"{where}, mse"] == pytest.approx(1_500, rel=0.02)
