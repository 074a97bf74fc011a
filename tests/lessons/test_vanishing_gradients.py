"""Per layer, sigmoid divides a gradient by four or more, doubled weights double it, tanh and relu keep its size."""

import pytest

from lookalike.lessons.vanishing_gradients import gradient_ratio
from lookalike.lessons.workbench import digits
from tests.lessons.conftest import Experiment


def ratio_name(name: str, depth: int) -> str:
    return f"gradient at the first layer / at the last, {name}, {depth} layers"


def test_sigmoid_gradients_vanish(numbers: Experiment) -> None:
    measured = numbers("vanishing-gradients")
    four, ten, twenty = (measured[ratio_name("sigmoid", depth)] for depth in (4, 10, 20))
    assert ten < four / 4**6
    assert twenty < ten / 4**10
    assert twenty < 1e-11


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_tanh_and_relu_gradients_keep_their_size(numbers: Experiment, name: str) -> None:
    measured = numbers("vanishing-gradients")
    assert all(0.1 < measured[ratio_name(name, depth)] < 10 for depth in (4, 10, 20))


def test_gradients_explode_with_doubled_weights(numbers: Experiment) -> None:
    measured = numbers("vanishing-gradients")
    for depth in (4, 10, 20):
        normal, doubled = (measured[ratio_name(name, depth)] for name in ("relu", "relu, weights doubled"))
        assert 0.2 < doubled / normal / 2 ** (depth - 1) < 5


def test_ten_layers_learn_with_tanh_and_relu_but_not_with_sigmoid(numbers: Experiment) -> None:
    measured = numbers("vanishing-gradients")
    right = {
        name: measured[f"share of test digits classified correctly, {name}, 10 layers after 10 epochs"]
        for name in ("sigmoid", "tanh", "relu")
    }
    assert right["sigmoid"] < 0.2
    assert min(right["tanh"], right["relu"]) > 0.9


def test_weights_of_zero_pass_no_gradient() -> None:
    data = digits(0)
    assert gradient_ratio("linear", 0.0, 2, data, seed=0) == 0.0
