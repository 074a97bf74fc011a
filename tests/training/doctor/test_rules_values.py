from typing import Any

import pytest

from lookalike.training.doctor import rules_values as rules
from tests.training.doctor.factory import Rule, case, check_fires, check_quiet, epoch


@pytest.mark.parametrize("name", [name for name in rules.__all__ if name != "nan_origin"])
def test_no_observation_on_a_healthy_run_or_without_epochs(name: str) -> None:
    check_quiet(getattr(rules, name))


@pytest.mark.parametrize(
    ("rule", "signs", "facts", "expected"),
    [
        (rules.out_of_reach, {}, {"beyond": 0.5, "floor": 0.0}, "never below 0, and 50%"),
        (rules.out_of_reach, {}, {"fixed_norm": True}, "same length"),
        (rules.shapes_differ, {}, {"output_width": 1}, "1 values and a target 8"),
        (
            rules.nan_from_rows,
            {"train": None, "nan": {"step": 3, "grew": 1.0, "rows": False, "output": False}},
            {},
            "step 4 of epoch 1",
        ),
        (
            rules.nan_from_rows,
            {"validation": None, "judged_nan": {"rows": False, "output": False}},
            {},
            "after epoch 1",
        ),
        (
            rules.nan_from_loss,
            {"train": None, "nan": {"step": 3, "grew": 1.0, "rows": True, "output": True}},
            {},
            "step 4",
        ),
        (
            rules.nan_from_division,
            {"train": None, "nan": {"step": 3, "grew": 1.0, "rows": True, "output": False}},
            {},
            "step 4",
        ),
    ],
)
def test_a_rule_fires_on_its_signs(rule: Rule, signs: dict[str, Any], facts: dict[str, Any], expected: str) -> None:
    check_fires(rule, signs, facts, expected)


@pytest.mark.parametrize("grown", [{"update": [0.9]}, {"worst_norm": 1e5}])
def test_a_nan_after_growth_is_not_a_division(grown: dict[str, Any]) -> None:
    nan = {"step": 3, "grew": 1.0, "rows": True, "output": False}
    assert rules.nan_origin(case(epoch(1, None, None, nan=nan))) == "division"
    assert rules.nan_origin(case(epoch(1, None, None, nan=nan, **grown))) == "growth"
    assert rules.nan_origin(case(epoch(1, None, None, nan=nan | {"grew": 99.0}))) == "growth"
