import math
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lookalike.training.config import LossConfig, ModelConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.losses import LOSSES, bounded, build_loss, check_pair

OUTPUT, TARGET = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 4.0], [3.0, 4.0]])
HALF = torch.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("kind", "output", "target", "expected"),
    [
        ("mse", OUTPUT, TARGET, (1 + 4 + 0 + 0) / 4),
        ("mae", OUTPUT, TARGET, (1 + 2 + 0 + 0) / 4),
        ("huber", OUTPUT, TARGET, (0.5 + 1.5 + 0 + 0) / 4),  # half the square up to 1, then the distance minus a half
        ("bce", HALF, HALF, math.log(2)),
        # -ln(3/4) for the target 1, -ln(1 - 3/4) for the target 0, and for 1/2 the mean of the two.
        ("bce", torch.tensor([[0.75, 0.75, 0.75]]), torch.tensor([[1.0, 0.0, 0.5]]), -math.log(3 / 16) / 2),
        ("bce_logits", torch.zeros(2, 2), TARGET / 4, math.log(2)),
        # ln 3 is the logit of 3/4.
        ("bce_logits", torch.full((1, 3), math.log(3)), torch.tensor([[1.0, 0.0, 0.5]]), -math.log(3 / 16) / 2),
        ("cross_entropy", torch.zeros(2, 5), torch.tensor([0, 4]), math.log(5)),
        # Shares of 1/6, 2/6 and 3/6; the mean over two rows.
        (
            "cross_entropy",
            torch.log(torch.tensor([[1.0, 2.0, 3.0]] * 2)),
            torch.tensor([0, 2]),
            -math.log(1 / 6 * 3 / 6) / 2,
        ),
    ],
)
def test_a_loss_is_the_mean_over_all_values_as_worked_out_by_hand(
    kind: str, output: Tensor, target: Tensor, expected: float
) -> None:
    assert float(LOSSES[kind](output, target)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logit", "target", "expected", "slope"),
    [
        (1_000.0, 1.0, 0.0, 0.0),
        (1_000.0, 0.0, 1_000.0, 1.0),
        (-1_000.0, 1.0, 1_000.0, -1.0),
        (-1e30, 0.0, 0.0, 0.0),
    ],
)
def test_extreme_logits_do_not_overflow_and_still_have_a_slope(
    logit: float, target: float, expected: float, slope: float
) -> None:
    output = torch.tensor([[logit]], requires_grad=True)
    loss = LOSSES["bce_logits"](output, torch.tensor([[target]]))
    (gradient,) = torch.autograd.grad(loss, output)
    assert (loss.item(), gradient.item()) == (expected, slope)


def test_extreme_logits_of_classes_do_not_overflow() -> None:
    logits = torch.tensor([[1_000.0, -1_000.0]])
    assert float(LOSSES["cross_entropy"](logits, torch.tensor([1]))) == 2_000.0
    assert float(LOSSES["cross_entropy"](logits, torch.tensor([0]))) == 0.0


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_cross_entropy_of_logits_is_that_of_their_sigmoid(pairs: list[tuple[float, float]]) -> None:
    logits, shares = np.array(pairs).T
    likely = 1 / (1 + np.exp(-logits))
    expected = -np.mean(shares * np.log(likely) + (1 - shares) * np.log1p(-likely))
    actual = LOSSES["bce_logits"](torch.from_numpy(logits), torch.from_numpy(shares))
    assert float(actual) == pytest.approx(expected, rel=1e-3, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=20))
def test_distances_are_never_negative_and_huber_is_between_half_the_square_and_the_distance(
    pairs: list[tuple[float, float]],
) -> None:
    output, target = torch.tensor(pairs, dtype=torch.float64).T
    mse, mae, huber = (float(LOSSES[kind](output, target)) for kind in ("mse", "mae", "huber"))
    assert 0 <= huber <= min(mse / 2, mae) + 1e-12
    assert mae**2 <= mse + 1e-9  # Jensen


@pytest.mark.parametrize(
    ("kind", "output"), [("bce_logits", "sigmoid"), ("bce_logits", "tanh"), ("bce", "linear"), ("bce", "tanh")]
)
def test_refuses_a_second_or_a_missing_sigmoid_with_a_remedy(kind: str, output: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_pair(LOSSES[kind], ModelConfig(output=cast(Any, output)))
    right = {"bce_logits": "linear", "bce": "sigmoid"}[kind]
    assert (caught.value.field, caught.value.found) == ("model.output", output)
    assert caught.value.remedy == f"--set model.output={right}"
    check_pair(LOSSES[kind], ModelConfig(output=cast(Any, right)))


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
@pytest.mark.parametrize("output", ["linear", "sigmoid", "tanh"])
def test_plain_values_may_come_from_any_output(kind: str, output: str) -> None:
    check_pair(LOSSES[kind], ModelConfig(output=cast(Any, output)))


def test_every_configurable_loss_exists_and_no_autoencoder_has_classes() -> None:
    configurable = set(get_args(LossConfig.__annotations__["kind"]))
    assert configurable == set(LOSSES) - {"cross_entropy"}
    assert {kind: build_loss(LossConfig(kind=kind)).name for kind in configurable} == {k: k for k in configurable}
    assert {loss.target for loss in LOSSES.values() if loss.name in configurable} == {"values", "shares"}


def test_a_bounded_loss_converts_each_value_to_its_share_of_the_range() -> None:
    # 4 of [2, 6] is a half; 7 is outside and counts as 6, a share of 1; the constant column counts as a half.
    loss = bounded(LOSSES["bce_logits"], torch.tensor([2.0, 2.0, 3.0]), torch.tensor([6.0, 6.0, 3.0]))
    logits = torch.tensor([[0.0, 2.0, 0.0]])
    by_hand = (2 * math.log(2) + math.log1p(math.exp(-2))) / 3
    assert float(loss(logits, torch.tensor([[4.0, 7.0, 3.0]]))) == pytest.approx(by_hand)
    assert loss.constant is not None
    assert loss.constant(torch.tensor([3.0, 6.0, 3.0])).tolist() == pytest.approx(
        [math.log(1 / 3), math.log(0.9999 / 0.0001), 0.0], rel=1e-3
    )
    assert (loss.output, loss.target) == ("logits", "values")
