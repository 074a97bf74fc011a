"""Momentum beats plain SGD, Adam beats both here; AdamW's decay is what it says, Adam's is not."""

import pytest

from lookalike.lessons.optimizers import OPTIMIZERS
from tests.lessons.conftest import Experiment


def test_the_order_of_the_five(numbers: Experiment) -> None:
    sgd, momentum, nesterov, adam, adamw = (
        numbers("optimizers")[f"test error after 20 epochs, {name}"] for name in OPTIMIZERS
    )
    assert sgd > 1.2 * max(momentum, nesterov)
    assert min(momentum, nesterov) > 1.2 * max(adam, adamw)
    assert momentum == pytest.approx(nesterov, rel=0.15)
    assert adam == pytest.approx(adamw, rel=0.1)


def test_decay_where_there_is_no_gradient(numbers: Experiment) -> None:
    told = numbers("optimizers")
    share = "weights of a dark pixel: share left by weight_decay 0.01"
    assert told[f"{share}, adamw"] == pytest.approx(told["(1 - lr * weight_decay) ** steps"], rel=1e-4)
    assert told["(1 - lr * weight_decay) ** steps"] == pytest.approx(0.9999 ** (5 * 23))  # 23 batches of 64 in 1,437
    assert told[f"{share}, adam"] < 0.02
