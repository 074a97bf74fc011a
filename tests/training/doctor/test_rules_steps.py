from typing import Any

import pytest

from lookalike.training.doctor import rules_steps as rules
from tests.training.doctor.factory import Rule, case, check_fires, check_quiet, epoch


@pytest.mark.parametrize("name", rules.__all__)
def test_no_observation_on_a_healthy_run_or_without_epochs(name: str) -> None:
    check_quiet(getattr(rules, name))


@pytest.mark.parametrize(
    ("rule", "signs", "facts", "expected"),
    [
        (rules.frozen_part, {}, {"frozen": ["encoder.0.weight"]}, "encoder.0.weight"),
        (rules.frozen_part, {"frozen": [True, False, False, False]}, {}, "weight matrix 1 of 4"),
        (rules.frozen_part, {"still": [1.0, 1.0, 0.0, 0.0]}, {}, "weight matrices 1, 2 of 4"),
        (rules.gradient_cut, {"reached": [0.0] * 4}, {}, "no matrix"),
        (rules.gradient_cut, {"reached": [0.0, 0.0, 1.0, 1.0]}, {}, "(None)"),
        (rules.gradient_cut, {"arrived": [0.0, 1.0, 1.0, 1.0]}, {}, "exactly 0"),
        (rules.gradient_zeroed, {"used": [0.0, 1.0, 1.0, 1.0]}, {}, "is gone"),
        (rules.optimizer_never_steps, {"moves": 0, "edited": False}, {}, "15 losses and 0 optimizer steps"),
        (rules.optimizer_never_steps, {"steps": 100, "moves": 4}, {}, "100 losses and 4 optimizer steps"),
        (rules.optimizer_recreated, {"moves": 0, "edited": True}, {}, "another does"),
        (rules.optimizer_state_lost, {"lost": 2}, {}, "at 10 of 25"),
        (rules.weights_overwritten, {"undone": 0.5}, {}, "by 0.5 times a step"),
        (rules.weights_overwritten, {"returned": True}, {}, "epoch 1 moves the weights"),
        (rules.clipped_to_nothing, {"kept": 1e-6, "update": [1e-7]}, {}, "1.0e-06"),
        (rules.epsilon_too_large, {"update": [1e-5]}, {"eps": 10.0}, "epsilon of 10"),
        (rules.schedule_ended, {"rates": [0.0, 1e-9]}, {}, "100%"),
        (rules.loss_maximized, {"along_first": -1.0}, {}, "upwards"),
        (rules.loss_maximized, {"turned": -1.0}, {}, "reversed"),
        (rules.loss_maximized, {"pull": [-0.9, 0.7, 0.6, 0.1, 0.3, 0.3]}, {}, "away from its own row"),
        (rules.gradient_changed, {"turned": 0.1}, {}, "0.10"),
        (rules.weights_alike, {}, {"alike_units": ["0.weight"]}, "0.weight"),
        (rules.momentum_too_high, {}, {"momentum": 0.999}, "1000 steps"),
    ],
)
def test_a_rule_fires_on_its_signs(rule: Rule, signs: dict[str, Any], facts: dict[str, Any], expected: str) -> None:
    check_fires(rule, signs, facts, expected)


def test_zero_gradients_of_dark_units_are_not_a_cut_path() -> None:
    dark = epoch(1, arrived=[0.0, 1.0, 1.0, 1.0], lit=[0.0, 1.0, 1.0, 1.0])
    assert rules.gradient_cut(case(dark)) is None
