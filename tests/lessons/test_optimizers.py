"""Here momentum is better than plain SGD, and Adam better than both; only AdamW decays exactly as configured."""

import pytest

from lookalike.lessons.optimizers import OPTIMIZERS
from tests.lessons.conftest import Experiment


def test_adam_is_best_and_plain_sgd_is_last(numbers: Experiment) -> None:
    sgd, momentum, nesterov, adam, adamw = (
        numbers("optimizers")[f"test error after 20 epochs, {name}"] for name in OPTIMIZERS
    )
    assert sgd > 1.2 * max(momentum, nesterov)
    assert min(momentum, nesterov) > 1.2 * max(adam, adamw)
    assert momentum == pytest.approx(nesterov, rel=0.15)
    assert adam == pytest.approx(adamw, rel=0.1)


def test_without_a_gradient_adamw_decays_as_configured_and_adam_more(numbers: Experiment) -> None:
    measured = numbers("optimizers")
    share = "weights of a dark pixel: share left by weight_decay 0.01"
    assert measured[f"{share}, adamw"] == pytest.approx(measured["(1 - lr * weight_decay) ** steps"], rel=1e-4)
    assert measured["(1 - lr * weight_decay) ** steps"] == pytest.approx(
        0.9999 ** (5 * 23)
    )  # 23 batches of 64 in 1,437
    assert measured[f"{share}, adam"] < 0.02
