"""Without activations, layers are one layer; a sigmoid is flat; a step that is too large kills ReLUs."""

import pytest
import torch

from lookalike.lessons.activations import RATES, collapsed
from lookalike.lessons.workbench import ACTIVATIONS, network
from tests.lessons.conftest import Experiment


def test_any_activation_is_much_better_than_none(numbers: Experiment) -> None:
    measured = numbers("activations")
    right = {name: measured[f"share of test rows classified correctly, {name}"] for name in ACTIVATIONS}
    assert 0.85 < right["linear"] < 0.945
    assert min(right[name] for name in ("relu", "leaky_relu", "gelu", "silu")) > right["linear"] + 0.03
    assert min(right[name] for name in ("relu", "leaky_relu", "gelu", "silu")) > 0.95
    assert right["sigmoid"] < min(right[name] for name in ("relu", "leaky_relu", "gelu", "silu")) - 0.02


def test_linear_layers_equal_one_matrix(numbers: Experiment) -> None:
    assert numbers("activations")["largest difference between the three linear layers and one matrix"] < 1e-5


def test_collapsed_as_worked_out_by_hand() -> None:
    model = network(1, 1, 1, activation="linear")
    for weights, value in zip(model.parameters(), (2.0, 1.0, 3.0, 5.0), strict=True):
        torch.nn.init.constant_(weights, value)
    weight, bias = collapsed(model)
    assert (weight.item(), bias.item()) == (6.0, 8.0)  # 3 (2 x + 1) + 5


def test_a_large_step_kills_relus(numbers: Experiment) -> None:
    small, large = (
        numbers("activations")[f"share of relu units that are 0 for every row, Adam at {rate}"] for rate in RATES
    )
    assert small < 0.25
    assert large > 2 * small
    assert large > 0.3


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
def test_the_steepest_slopes_match_the_page(numbers: Experiment, name: str, slope: float) -> None:
    assert numbers("activations")[f"steepest slope of {name}"] == pytest.approx(slope, abs=0.005)
