"""Each pillar has its own effect: a limit, an aim, a pace."""

from tests.lessons.conftest import Experiment

RIGHT, LINEAR = "silu, squared error, Adam", "another model: no activations"
ABSOLUTE, SGD = "another loss: absolute error", "another optimizer: plain SGD"


def test_another_model_has_a_higher_limit(numbers: Experiment) -> None:
    told = numbers("three-pillars")
    assert told[f"mean squared test error, {LINEAR}"] > 1.2 * told[f"mean squared test error, {RIGHT}"]


def test_each_loss_gets_what_it_asks_for(numbers: Experiment) -> None:
    told = numbers("three-pillars")
    assert told[f"mean absolute test error, {ABSOLUTE}"] < 0.99 * told[f"mean absolute test error, {RIGHT}"]
    assert told[f"mean squared test error, {ABSOLUTE}"] > 1.02 * told[f"mean squared test error, {RIGHT}"]


def test_another_optimizer_is_slower(numbers: Experiment) -> None:
    told = numbers("three-pillars")
    assert told[f"mean squared test error, {SGD}"] > 2 * told[f"mean squared test error, {RIGHT}"]
