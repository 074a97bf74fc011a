"""Each of the five mistakes does what the page says."""

import math
import re

import pytest
import torch

from lookalike.lessons.catalogue import open_lesson
from lookalike.lessons.common_mistakes import MISTAKES, not_zeroed
from lookalike.lessons.workbench import cross_entropy, digits
from tests.lessons.conftest import Experiment

LEAST = math.log(math.e + 9) - 1


def two_ways(numbers: Experiment, mistake: str) -> tuple[float, float]:
    right, wrong = (value for name, value in numbers("common-mistakes").items() if name.startswith(mistake))
    return right, wrong


def test_there_are_five() -> None:
    assert len(MISTAKES) == 5


def test_gradients_not_zeroed(numbers: Experiment, seed: int) -> None:
    right, wrong = two_ways(numbers, "Gradients not zeroed")
    assert right < 0.5
    assert wrong > 4 * right
    with_zero, without = not_zeroed(digits(seed), seed).values()
    assert without[0] < with_zero[0]  # better at first
    assert max(without) > 2 * without[0]


def test_double_softmax(numbers: Experiment) -> None:
    right, wrong = two_ways(numbers, "Double softmax")
    assert wrong > LEAST
    assert right < 0.3


@pytest.mark.parametrize(("classes", "told"), [(10, 1.461), (2, 0.313)])
def test_a_double_softmax_has_a_least_loss(classes: int, told: float) -> None:
    certain = torch.nn.functional.one_hot(torch.tensor([0]), classes).float()
    assert float(cross_entropy(certain, torch.tensor([0]))) == pytest.approx(told, abs=0.0005)
    page = open_lesson("common-mistakes").page
    assert re.search(rf"log\(e \+ K - 1\) - 1 for K classes: .*\b{told} for {classes}\b", page)


def test_wrong_mode(numbers: Experiment) -> None:
    right, wrong = two_ways(numbers, "Wrong mode")
    assert wrong < right - 0.02


def test_missing_activations(numbers: Experiment) -> None:
    right, wrong = two_ways(numbers, "Missing activations")
    assert wrong < right - 0.03


def test_sigmoid_in_a_deep_stack(numbers: Experiment) -> None:
    right, wrong = two_ways(numbers, "Sigmoid in a deep stack")
    assert right > 0.9
    assert wrong < 0.5
    assert pytest.approx(0.000015, rel=0.05) == 0.25**8
