"""Each pillar has a different effect: the limit, the goal, the speed."""

from tests.lessons.conftest import Experiment

RIGHT, LINEAR = "silu, squared error, Adam", "different model: no activations"
ABSOLUTE, SGD = "different loss: absolute error", "different optimizer: plain SGD"


def test_a_weaker_model_has_a_higher_error(numbers: Experiment) -> None:
    measured = numbers("three-pillars")
    assert measured[f"mean squared test error, {LINEAR}"] > 1.2 * measured[f"mean squared test error, {RIGHT}"]


def test_each_loss_lowers_the_error_that_it_measures(numbers: Experiment) -> None:
    measured = numbers("three-pillars")
    assert measured[f"mean absolute test error, {ABSOLUTE}"] < 0.99 * measured[f"mean absolute test error, {RIGHT}"]
    assert measured[f"mean squared test error, {ABSOLUTE}"] > 1.02 * measured[f"mean squared test error, {RIGHT}"]


def test_a_weaker_optimizer_is_slower(numbers: Experiment) -> None:
    measured = numbers("three-pillars")
    assert measured[f"mean squared test error, {SGD}"] > 2 * measured[f"mean squared test error, {RIGHT}"]
