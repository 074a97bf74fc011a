from typing import Any, cast

import pytest
import torch
from torch import nn

from training.config import OptimizerConfig
from training.optim import build_optimizer, build_schedule


def stepped(config: OptimizerConfig, gradients: list[float], start: float = 2.0) -> float:
    """One weight after a step per gradient."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    optimizer = build_optimizer(config, model)
    for gradient in gradients:
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    return model.weight.item()


def test_sgd_follows_the_gradient_with_momentum() -> None:
    # Velocities 3, then 0.5 * 3 + 1 = 2.5: 2 - 0.1 * 3 - 0.1 * 2.5.
    config = OptimizerConfig(kind="sgd", lr=0.1, momentum=0.5)
    assert stepped(config, [3.0, 1.0]) == pytest.approx(1.45)


def test_sgd_decays_weights_through_the_gradient() -> None:
    config = OptimizerConfig(kind="sgd", lr=0.1, momentum=0.0, weight_decay=0.5)
    assert stepped(config, [3.0]) == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_first_steps_by_the_rate_whatever_the_gradient(kind: str) -> None:
    # Kingma and Ba 2015, algorithm 1: at t = 1 the corrected moments are g and g squared.
    config = OptimizerConfig(kind=cast(Any, kind), lr=0.1)
    assert stepped(config, [1e-3]) == pytest.approx(1.9, rel=1e-4)
    assert stepped(config, [-1e3]) == pytest.approx(2.1, rel=1e-4)


def test_adam_decays_through_the_gradient_and_adamw_beside_it() -> None:
    # Loshchilov and Hutter 2019. Adam: gradient -0.5 + 0.5 * 2 > 0, so a step down. AdamW: 2 * (1 - 0.05), a step up.
    settings = {"lr": 0.1, "weight_decay": 0.5}
    assert stepped(OptimizerConfig(kind="adam", **cast(Any, settings)), [-0.5]) == pytest.approx(1.9, rel=1e-4)
    assert stepped(OptimizerConfig(kind="adamw", **cast(Any, settings)), [-0.5]) == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(("kind", "rates"), [("constant", [0.4, 0.4, 0.4, 0.4]), ("cosine", [0.4, 0.3, 0.2, 0.0])])
def test_a_schedule_goes_from_the_rate_along_its_curve(kind: str, rates: list[float]) -> None:
    # cos(pi / 3) = 1/2.
    schedule = build_schedule(OptimizerConfig(lr=0.4, schedule=cast(Any, kind)))
    assert [schedule(done) for done in (0, 1 / 3, 1 / 2, 1)] == pytest.approx(rates, abs=1e-12)
