"""Sigmoid fades by four or more a layer, doubled weights explode by two, tanh and relu keep their size."""

import pytest

from lookalike.lessons.vanishing_gradients import arriving
from lookalike.lessons.workbench import digits
from tests.lessons.conftest import Experiment


def arrives(name: str, depth: int) -> str:
    return f"gradient at the first layer / at the last, {name}, {depth} layers"


def test_sigmoid_fades(numbers: Experiment) -> None:
    told = numbers("vanishing-gradients")
    four, ten, twenty = (told[arrives("sigmoid", depth)] for depth in (4, 10, 20))
    assert ten < four / 4**6
    assert twenty < ten / 4**10
    assert twenty < 1e-11


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_others_keep_their_size(numbers: Experiment, name: str) -> None:
    told = numbers("vanishing-gradients")
    assert all(0.1 < told[arrives(name, depth)] < 10 for depth in (4, 10, 20))


def test_doubled_weights_explode(numbers: Experiment) -> None:
    told = numbers("vanishing-gradients")
    for depth in (4, 10, 20):
        once, doubled = (told[arrives(name, depth)] for name in ("relu", "relu, weights doubled"))
        assert 0.2 < doubled / once / 2 ** (depth - 1) < 5


def test_what_can_be_learnt(numbers: Experiment) -> None:
    told = numbers("vanishing-gradients")
    right = {
        name: told[f"share of test digits told right, {name}, 10 layers after 10 epochs"]
        for name in ("sigmoid", "tanh", "relu")
    }
    assert right["sigmoid"] < 0.2
    assert min(right["tanh"], right["relu"]) > 0.9


def test_weights_of_zero_pass_nothing() -> None:
    data = digits(0)
    assert arriving("linear", 0.0, 2, data, seed=0) == 0.0  # weights of zero pass nothing
