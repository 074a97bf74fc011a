"""Each regularization raises the training loss, lowers the test loss, and narrows the gap."""

import pytest

from lookalike.lessons.regularization import REGULARIZERS, _network
from tests.lessons.conftest import Experiment

KINDS = [*(name for name in REGULARIZERS if name != "nothing"), "early stopping"]


@pytest.mark.parametrize("kind", KINDS)
def test_regularization_raises_the_training_loss_and_lowers_the_test_loss(numbers: Experiment, kind: str) -> None:
    measured = numbers("regularization")
    assert measured[f"training loss, {kind}"] > 2 * measured["training loss, nothing"]
    assert measured[f"test loss, {kind}"] < 0.95 * measured["test loss, nothing"]
    assert measured[f"gap between them, {kind}"] < 0.8 * measured["gap between them, nothing"]


def test_without_regularization_the_wrong_labels_are_learned(numbers: Experiment) -> None:
    assert numbers("regularization")["training loss, nothing"] < 0.05


def test_the_network_has_the_size_that_the_page_states() -> None:
    assert sum(weights.numel() for weights in _network(0.5).parameters()) == 85_002
