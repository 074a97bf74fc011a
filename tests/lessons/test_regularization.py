"""Each way of holding back raises the training loss, lowers the test loss, and narrows the gap."""

import pytest

from lookalike.lessons.regularization import HELD_BACK, _network
from tests.lessons.conftest import Experiment

WAYS = [*(name for name in HELD_BACK if name != "nothing"), "early stopping"]


@pytest.mark.parametrize("way", WAYS)
def test_worse_in_the_exercise_better_in_the_exam(numbers: Experiment, way: str) -> None:
    told = numbers("regularization")
    assert told[f"training loss, {way}"] > 2 * told["training loss, nothing"]
    assert told[f"test loss, {way}"] < 0.95 * told["test loss, nothing"]
    assert told[f"gap between them, {way}"] < 0.8 * told["gap between them, nothing"]


def test_without_it_the_wrong_labels_are_learnt(numbers: Experiment) -> None:
    assert numbers("regularization")["training loss, nothing"] < 0.05


def test_the_network_is_as_large_as_the_page_says() -> None:
    assert sum(weights.numel() for weights in _network(0.5).parameters()) == 85_002
