from typing import Any

import pytest

from lookalike.training.doctor import rules_rows as rules
from tests.training.doctor.factory import Rule, check_fires, check_quiet


@pytest.mark.parametrize("name", rules.__all__)
def test_no_observation_on_a_healthy_run_or_without_epochs(name: str) -> None:
    check_quiet(getattr(rules, name))


@pytest.mark.parametrize(
    ("rule", "signs", "facts", "expected"),
    [
        (rules.target_of_another_row, {"pull": [0.0, -0.3, 0.9, 1.0, 0.3, 0.3]}, {}, "cosine 0.00"),
        (rules.target_of_another_row, {}, {"link": {"same_rows": True, "error": 1.2}}, "another order"),
        (rules.target_is_noise, {"pull": [0.0, -0.3, 0.0, 0.0, 0.1, 0.3]}, {}, "cosine 0.00"),
        (rules.target_is_noise, {}, {"link": {"same_rows": False, "error": 1.2}}, "1.20 of its variance"),
        (rules.input_is_noise, {"pull": [0.0, -0.3, 0.0, 0.0, 0.4, 0.125]}, {}, "by 0.00"),
        (rules.loss_ignores_outputs, {"silent": [0.5, 0.0]}, {}, "50% of the output columns"),
        (rules.loss_ignores_outputs, {"silent": [0.0, 0.9]}, {}, "90% of the rows of a batch"),
        (
            rules.same_rows_each_step,
            {"batches": {"between": 0.0, "within": 1.0, "same": True, "rows": 64}},
            {},
            "same 64 of 900",
        ),
        (
            rules.same_rows_each_step,
            {"batches": {"between": 1.0, "within": 0.0, "same": False, "rows": 64}},
            {},
            "the same row",
        ),
        (
            rules.batches_of_one_kind,
            {"batches": {"between": 0.2, "within": 0.8, "same": False, "rows": 64}},
            {},
            "12.8 times",
        ),
        (
            rules.judged_on_training_rows,
            {"judged": {"rows": 900, "sketch": [1, 2, 3, 4], "foreign": 1.0}},
            {},
            "900 rows",
        ),
        (rules.judged_on_other_rows, {"train": 0.2}, {"foreign": 9.0}, "9.0 times worse"),
        (rules.trained_in_eval_mode, {"eval_mode": 5}, {}, "25 of 25"),
        (rules.stale_statistics, {}, {"statistics": [0.0, 0.1]}, "never follow"),
        (rules.stale_statistics, {}, {"statistics": [1.0, 0.1]}, "last batch"),
    ],
)
def test_a_rule_fires_on_its_signs(rule: Rule, signs: dict[str, Any], facts: dict[str, Any], expected: str) -> None:
    check_fires(rule, signs, facts, expected)
