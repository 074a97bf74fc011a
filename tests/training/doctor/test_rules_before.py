from collections.abc import Callable
from typing import Any

import pytest

from lookalike.training.config import load_config
from lookalike.training.doctor import rules_before as rules
from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation
from tests.training.doctor.factory import case, epoch

Rule = Callable[[Case], Observation | None]
EVERY: list[Rule] = [getattr(rules, name) for name in rules.__all__]
LOGITS = {"wants": "logits", "loss": "bce_logits"}
LINEAR = {"last": "Linear", "answers": [-0.01, 1.01]}
UNIT = {"target_low": 0.0, "target_high": 1.0}
UP, DOWN = 1 + 1e-6, 1 - 1e-6
STEEP = [0.9, 0.6, rules.NOTICEABLE * UP, rules.NOTICEABLE / 3 * DOWN, 0.02, 0.01]
"""A spectrum in which four dimensions explain far more than three."""


def evaluate(rule: Rule, **facts: Any) -> Observation | None:
    """Evaluate a rule before the first step."""
    return rule(Case(case(**facts).facts))


@pytest.mark.parametrize("rule", EVERY)
def test_no_observation_on_healthy_or_missing_facts(rule: Rule) -> None:
    assert evaluate(rule) is None
    assert rule(case()) is None
    assert rule(Case({})) is None
    assert rule(Case({"rows": 3, "validation_rows": 1, "bad_rows": 0})) is None


@pytest.mark.parametrize(
    ("rule", "quiet", "loud", "expected"),
    [
        (rules.bad_rows, {"bad_rows": 0}, {"bad_rows": 1}, "1 of 1000 rows"),
        (rules.far_values, {"clipped": [0, ""]}, {"clipped": [2, "row 4"]}, "2 values are far outside the range"),
        (rules.rows_alike, {"alike": False}, {"alike": True}, "all 900 training rows"),
        (rules.missing_parameters, {"missing": []}, {"missing": ["decoder.0.weight"]}, "decoder.0.weight"),
        (rules.batch_of_one, {"smallest_batch": 2}, {"smallest_batch": 1}, "1 rows"),
        (
            rules.batch_of_one,
            {"smallest_batch": 1, "batch_norm": False},
            {"smallest_batch": 1, "batch_norm": True},
            "batch norm",
        ),
        (rules.duplicates, {"duplicates": rules.DUPLICATES * DOWN}, {"duplicates": rules.DUPLICATES * UP}, "10%"),
        (
            rules.missing_activations,
            {"affine": True, "depth": 2},
            {"affine": True, "depth": 3},
            "3 weight matrices in a row act as one",
        ),
        (
            rules.batch_too_small,
            {"smallest_batch": rules.SMALLEST_BATCH},
            {"smallest_batch": rules.SMALLEST_BATCH - 1},
            f"{rules.SMALLEST_BATCH - 1} rows",
        ),
        (rules.batch_too_small, {"smallest_batch": 3, "batch_norm": False}, {"smallest_batch": 3}, "3 rows"),
        (rules.corruption_too_strong, {"lost": rules.LOST * DOWN}, {"lost": rules.LOST * UP}, f"{rules.LOST:.0%}"),
        (
            rules.unscaled_inputs,
            {"scale": rules.LARGEST_SCALE * DOWN},
            {"scale": rules.LARGEST_SCALE * UP},
            f"square is {rules.LARGEST_SCALE:.3g} (from -3 to 3)",
        ),
        (
            rules.unscaled_inputs,
            {"scale": rules.SMALLEST_SCALE * UP},
            {"scale": rules.SMALLEST_SCALE * DOWN},
            f"square is {rules.SMALLEST_SCALE:.3g}",
        ),
        (rules.unscaled_inputs, {"scale": 0.0}, {"scale": 1e-30}, "1e-30"),
        (rules.blurred_columns, {"blurred": []}, {"blurred": ["when"]}, "column when"),
        (rules.blurred_columns, {"blurred": []}, {"blurred": list("abcdef")}, "column a, b, c, d and 2 more"),
        (
            rules.unscaled_inputs,
            {"widest_column": rules.WIDEST_COLUMN * DOWN},
            {"widest_column": rules.WIDEST_COLUMN * UP},
            f"one of 8 columns has {rules.WIDEST_COLUMN:.0%}",
        ),
        (rules.unscaled_inputs, {"widest_column": 0.9, "numbers": 3}, {"widest_column": 0.9, "numbers": 4}, "90%"),
        (rules.double_activation, LOGITS | LINEAR, LOGITS | LINEAR | {"last": "Sigmoid"}, "ends with a sigmoid"),
        (rules.double_activation, {"last": "Sigmoid"}, LOGITS | {"last": "Sigmoid"}, "ends with a sigmoid"),
        (
            rules.double_activation,
            LOGITS | {"answers": [-1e-6, 1.0]},
            LOGITS | {"answers": [0.0, 1.0]},
            "behaves like a sigmoid",
        ),
        (
            rules.double_activation,
            LOGITS | {"answers": [0.1, 1.0]},
            LOGITS | {"answers": [0.1, 1.0], "sums_to_one": True},
            "behaves like a softmax",
        ),
        (  # a narrow range of outputs is no evidence unless the last module is known
            rules.double_activation,
            LOGITS | {"answers": [0.2, 0.69]},
            LOGITS | {"answers": [0.2, 0.69], "last": "Softmax", "sums_to_one": True},
            "ends with a softmax: [0.2, 0.69]",
        ),
        (
            rules.wrong_output_range,
            UNIT | {"last": "Sigmoid", "answers": [0.3, 0.6]},
            {"last": "Sigmoid", "answers": [0.3, 0.6]},
            "the model's output is within [0, 1], its targets are within [-3, 3]",
        ),
        (
            rules.wrong_output_range,
            {"last": "Tanh", "target_low": -1.0, "target_high": 1 + rules.SLACK * DOWN},
            {"last": "Tanh", "target_low": -1.0, "target_high": 1 + rules.SLACK * 2},
            "[-1, 1]",
        ),
        (
            rules.wrong_output_range,
            UNIT | {"last": "Linear", "answers": [0.0, 1.0], "target_low": -rules.SLACK * DOWN},
            UNIT | {"last": "Linear", "answers": [0.0, 1.0], "target_low": -rules.SLACK * 2},
            "[0, 1]",
        ),
        (rules.wrong_output_range, {"answers": [-0.99, 1.0]}, {"answers": [-0.996, 0.996]}, "[-1, 1]"),
        (rules.wrong_output_range, {"answers": [0.0, 1.001]}, {"answers": [0.004, 0.996]}, "[0, 1]"),
        (rules.wrong_output_range, LOGITS | {"last": "Tanh"}, {"last": "Tanh"}, "[-1, 1]"),
        (
            rules.bottleneck_too_small,
            {"widths": [9, 1, 9], "spectrum": [rules.UNEXPLAINED * DOWN, rules.UNEXPLAINED * 0.9, 0.4]},
            {"widths": [9, 1, 9], "spectrum": [rules.UNEXPLAINED * UP, rules.UNEXPLAINED * 0.9, 0.4]},
            f"a layer of width 1 the best linear map leaves {rules.UNEXPLAINED:.0%} of the variance unexplained",
        ),
        (rules.bottleneck_too_small, {"widths": [9, 4], "spectrum": STEEP}, {"widths": [9, 3], "spectrum": STEEP}, "3"),
        (
            rules.bottleneck_too_small,
            {"widths": [9, 3], "spectrum": [*STEEP[:2], rules.NOTICEABLE * DOWN, *STEEP[3:]]},
            {"widths": [9, 3], "spectrum": STEEP},
            "a layer of width 4 only",
        ),
        (
            rules.bottleneck_too_small,
            {"widths": [9, 3], "spectrum": [*STEEP[:3], STEEP[2] / 3 * UP, 0.01]},
            {"widths": [9, 3], "spectrum": STEEP},
            "of width 4",
        ),
        (
            rules.bottleneck_too_small,
            {"widths": [], "spectrum": [0.9, 0.8]},
            {"widths": [1], "spectrum": [0.9, 0.8]},
            "",
        ),
        (
            rules.bottleneck_too_small,
            {"widths": [2], "spectrum": [0.9, 0.8]},
            {"widths": [1], "spectrum": [0.9, 0.8]},
            "",
        ),
    ],
)
def test_a_rule_fires_only_above_its_threshold(
    rule: Rule, quiet: dict[str, Any], loud: dict[str, Any], expected: str
) -> None:
    assert evaluate(rule, **quiet) is None
    seen = evaluate(rule, **loud)
    assert seen is not None
    assert expected in seen.evidence
    assert seen.change
    load_config(None, list(seen.settings))


@pytest.mark.parametrize(
    ("rule", "facts", "enough"),
    [
        (rules.corruption_too_strong, {"lost": 0.99}, rules.LOST_LOSS),
        (rules.bottleneck_too_small, {"widths": [3], "spectrum": STEEP}, rules.WELL_DONE),
    ],
)
def test_no_observation_if_the_run_still_learned_well(rule: Rule, facts: dict[str, Any], enough: float) -> None:
    assert rule(case(epoch(1, 0.0, enough * UP), trivial_loss=1.0, **facts)) is not None
    assert rule(case(epoch(1, 9.0, enough * DOWN), trivial_loss=1.0, **facts)) is None


def test_advises_the_smallest_sufficient_width_for_a_bottleneck() -> None:
    spectrum = [0.8, 0.6, 0.4, rules.ENOUGH * UP, rules.ENOUGH * DOWN, 0.01]
    seen = evaluate(rules.bottleneck_too_small, widths=[1], spectrum=spectrum)
    assert seen is not None
    assert seen.settings == ("model.latent_dim=5",)
    never = evaluate(rules.bottleneck_too_small, widths=[1], spectrum=[0.8, 0.7, 0.6])
    assert never is not None
    assert never.settings == ("model.latent_dim=3",)


def test_names_the_first_of_many_missing_parameters() -> None:
    seen = evaluate(rules.missing_parameters, missing=[f"layers.{number}" for number in range(9)])
    assert seen is not None
    assert seen.evidence.startswith("9 trainable parameters")
    assert "layers.3" in seen.evidence
    assert "layers.4" not in seen.evidence
