"""Each of the five mistakes has the effect that the page describes."""

import math
import re

import pytest
import torch

from lookalike.lessons.catalogue import open_lesson
from lookalike.lessons.common_mistakes import MISTAKES, not_zeroed
from lookalike.lessons.workbench import cross_entropy, digits
from tests.lessons.conftest import Experiment

LEAST = math.log(math.e + 9) - 1


def right_and_wrong(numbers: Experiment, mistake: str) -> tuple[float, float]:
    right, wrong = (value for name, value in numbers("common-mistakes").items() if name.startswith(mistake))
    return right, wrong


def test_there_are_five_mistakes() -> None:
    assert len(MISTAKES) == 5


def test_without_zeroed_gradients_the_loss_grows(numbers: Experiment, seed: int) -> None:
    right, wrong = right_and_wrong(numbers, "Gradients not zeroed")
    assert right < 0.5
    assert wrong > 4 * right
    with_zero, without = not_zeroed(digits(seed), seed).values()
    assert without[0] < with_zero[0]  # better at first
    assert max(without) > 2 * without[0]


def test_a_double_softmax_keeps_the_loss_high(numbers: Experiment) -> None:
    right, wrong = right_and_wrong(numbers, "Double softmax")
    assert wrong > LEAST
    assert right < 0.3


@pytest.mark.parametrize(("classes", "expected"), [(10, 1.461), (2, 0.313)])
def test_a_double_softmax_has_a_least_loss(classes: int, expected: float) -> None:
    certain = torch.nn.functional.one_hot(torch.tensor([0]), classes).float()
    assert float(cross_entropy(certain, torch.tensor([0]))) == pytest.approx(expected, abs=0.0005)
    page = open_lesson("common-mistakes").page
    assert re.search(rf"log\(e \+ K - 1\) - 1 for K classes: .*\b{expected} for {classes}\b", page)


def test_train_mode_lowers_the_accuracy(numbers: Experiment) -> None:
    right, wrong = right_and_wrong(numbers, "Wrong mode")
    assert wrong < right - 0.02


def test_missing_activations_lower_the_accuracy(numbers: Experiment) -> None:
    right, wrong = right_and_wrong(numbers, "Missing activations")
    assert wrong < right - 0.03


def test_sigmoids_in_a_deep_stack_prevent_learning(numbers: Experiment) -> None:
    right, wrong = right_and_wrong(numbers, "Sigmoid in a deep stack")
    assert right > 0.9
    assert wrong < 0.5
    assert pytest.approx(0.000015, rel=0.05) == 0.25**8
