"""Without a bend between them, layers are one; a sigmoid is flat; too long a step kills ReLUs."""

import pytest
import torch

from lookalike.lessons.activations import RATES, collapsed
from lookalike.lessons.workbench import ACTIVATIONS, network
from tests.lessons.conftest import Experiment


def test_a_bend_is_worth_more_than_which(numbers: Experiment) -> None:
    told = numbers("activations")
    right = {name: told[f"share of test rows told right, {name}"] for name in ACTIVATIONS}
    assert 0.85 < right["linear"] < 0.945
    assert min(right[name] for name in ("relu", "leaky_relu", "gelu", "silu")) > right["linear"] + 0.03
    assert min(right[name] for name in ("relu", "leaky_relu", "gelu", "silu")) > 0.95
    assert right["sigmoid"] < min(right[name] for name in ("relu", "leaky_relu", "gelu", "silu")) - 0.02


def test_linear_layers_are_one_matrix(numbers: Experiment) -> None:
    assert numbers("activations")["largest difference between the three linear layers and one matrix"] < 1e-5


def test_collapsed_by_hand() -> None:
    model = network(1, 1, 1, activation="linear")
    for weights, value in zip(model.parameters(), (2.0, 1.0, 3.0, 5.0), strict=True):
        torch.nn.init.constant_(weights, value)
    weight, bias = collapsed(model)
    assert (weight.item(), bias.item()) == (6.0, 8.0)  # 3 (2 x + 1) + 5


def test_a_long_step_kills(numbers: Experiment) -> None:
    usual, long = (numbers("activations")[f"share of relu units that answer no row, Adam at {rate}"] for rate in RATES)
    assert usual < 0.25
    assert long > 2 * usual
    assert long > 0.3


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("linear", 1.0),
        ("relu", 1.0),
        ("leaky_relu", 1.0),
        ("gelu", 1.13),
        ("silu", 1.10),
        ("tanh", 1.0),
        ("sigmoid", 0.25),
    ],
)
def test_the_steepest_slopes_are_those_of_the_page(numbers: Experiment, name: str, slope: float) -> None:
    assert numbers("activations")[f"steepest slope of {name}"] == pytest.approx(slope, abs=0.005)
