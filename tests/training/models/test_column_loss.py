"""Losses worked out by hand: with logits 0, each of k values has the share 1/k and costs log k."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lookalike.training.config import ModelConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.column_loss import column_loss, column_weights
from lookalike.training.models.losses import LOSSES, bounded, check_pair
from lookalike.training.tables.columns import Column
from lookalike.training.tables.layout import Layout, Slots

MSE = LOSSES["mse"]
#   n | m | is n missing? | is m missing? | c: 2 slots | d: 4 slots
MIXED = Layout(4, (0, 1), (Slots(2, 4, 2), Slots(3, 6, 4)))
TARGET = [0.0, 0.0, 0.0, 0.0, 1, 0, 0, 0, 1, 0]


def of(layout: Layout, output: list[float], target: list[float]) -> float:
    return float(column_loss(MSE, layout, [1.0] * layout.width)(torch.tensor([output]), torch.tensor([target])))


def test_each_column_has_the_loss_of_its_kind_and_the_same_weight() -> None:
    # n: 3² and log 2. m: 2² and log 2. Both are present. c: log 2. d: log 4. The mean over four columns.
    expected = (9 + 4 + 3 * math.log(2) + math.log(4)) / 4
    assert of(MIXED, [3.0, 2.0, *[0.0] * 8], TARGET) == pytest.approx(expected)


def test_a_column_has_the_same_weight_for_any_number_of_features() -> None:
    def alone(count: int) -> float:
        return of(Layout(1, (), (Slots(0, 0, count),)), [0.0] * count, [1.0] + [0.0] * (count - 1))

    two = Layout(2, (), (Slots(0, 0, 2), Slots(1, 2, 8)))
    assert of(two, [0.0] * 10, [1.0] + [0.0] * 8 + [1.0]) == pytest.approx((alone(2) + alone(8)) / 2)
    assert alone(8) == pytest.approx(math.log(8))


def test_a_missing_number_costs_only_its_indicator() -> None:
    # The indicator's logit is log 3: the value is missing with the share 3/4.
    layout = Layout(1, (0,), ())
    assert of(layout, [99.0, math.log(3)], [0.0, 1.0]) == pytest.approx(math.log(4 / 3))
    assert of(layout, [2.0, math.log(3)], [0.0, 0.0]) == pytest.approx(4 + math.log(4))


def test_an_unknown_category_costs_nothing() -> None:
    target = [*TARGET[:4], 0, 0, *TARGET[6:]]
    expected = (2 * math.log(2) + math.log(4)) / 4
    assert of(MIXED, [0.0, 0.0, 0.0, 0.0, 5.0, -5.0, *[0.0] * 4], target) == pytest.approx(expected)


def test_a_weighted_column_counts_more() -> None:
    # n counts 2, m 1, c 1/2, d 1/2: of the weights' sum, 4.
    loss = column_loss(MSE, MIXED, [2.0, 1.0, 0.5, 0.5])
    value = float(loss(torch.tensor([[3.0, 2.0, *[0.0] * 8]]), torch.tensor([TARGET])))
    two = math.log(2)
    assert value == pytest.approx((2 * (9 + two) + (4 + two) + 0.5 * two + 0.5 * math.log(4)) / 4)


def test_the_columns_of_a_field_share_its_weight() -> None:
    parts = [Column(f"when.{part}", "numeric", (), "when", part) for part in ("age", "hour_sin", "hour_cos")]
    assert column_weights([Column("n"), *parts], {}) == pytest.approx((1, 1 / 3, 1 / 3, 1 / 3))
    assert column_weights([Column("n"), *parts], {"when": 6.0, "n": 0.5}) == pytest.approx((0.5, 2, 2, 2))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [([Column("n"), Column("m")], "names of input columns: n, m"), ([], "the rows are no table")],
)
def test_refuses_the_weight_of_an_unknown_column(columns: list[Column], expected: str) -> None:
    with pytest.raises(ConfigError, match=f"data.weight: expected .*{expected}, found 'x'"):
        column_weights(columns, {"x": 2.0})


def test_the_loss_is_a_mean_over_rows() -> None:
    torch.manual_seed(0)
    output, target = torch.randn(6, 10), torch.tensor([TARGET]).repeat(6, 1)
    loss = column_loss(MSE, MIXED, [1.0] * 4)
    one_by_one = [float(loss(o[None], t[None])) for o, t in zip(output, target, strict=True)]
    assert float(loss(output, target)) == pytest.approx(sum(one_by_one) / 6)


@given(st.lists(st.floats(-300, 300, width=32), min_size=6, max_size=6), st.integers(0, 1), st.integers(0, 3))
def test_categories_cost_as_much_as_torchs_cross_entropy(logits: list[float], first: int, second: int) -> None:
    layout = Layout(2, (), (Slots(0, 0, 2), Slots(1, 2, 4)))
    target = torch.zeros(1, 6)
    target[0, first] = target[0, 2 + second] = 1
    output = torch.tensor([logits])
    expected = functional.cross_entropy(output[:, :2], torch.tensor([first]))
    expected += functional.cross_entropy(output[:, 2:], torch.tensor([second]))
    assert float(column_loss(MSE, layout, [1.0] * layout.width)(output, target)) == pytest.approx(
        float(expected) / 2, rel=1e-4, abs=1e-4
    )


def test_the_gradient_is_the_share_minus_the_truth() -> None:
    # Cross-entropy's gradient: softmax minus one-hot, here over one column and one row.
    output = torch.tensor([[math.log(3), 0.0]], requires_grad=True)
    loss = column_loss(MSE, Layout(1, (), (Slots(0, 0, 2),)), [1.0])(output, torch.tensor([[0.0, 1.0]]))
    (slope,) = torch.autograd.grad(loss, output)
    torch.testing.assert_close(slope, torch.tensor([[0.75, -0.75]]))


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_extreme_logits_do_not_overflow(far: float) -> None:
    output = torch.tensor([[far, 0.0, -far, 1e4, 0.0, 0.0]], requires_grad=True)
    layout = Layout(2, (), (Slots(0, 0, 3), Slots(1, 3, 3)))
    loss = column_loss(MSE, layout, [1.0] * layout.width)(output, torch.tensor([[0.0, 0, 1, 0, 0, 1]]))
    (slope,) = torch.autograd.grad(loss, output)
    assert bool(loss.isfinite())
    assert bool(slope.isfinite().all())


@pytest.mark.parametrize(("kind", "error"), [("mse", 9.0), ("mae", 3.0), ("huber", 2.5)])
def test_numbers_have_the_configured_loss(kind: str, error: float) -> None:
    loss = column_loss(LOSSES[kind], MIXED, [1.0] * 4)
    rest = (3 * math.log(2) + math.log(4)) / 4
    assert loss.name == f"{kind}+cross_entropy"
    got = loss(torch.tensor([[3.0, *[0.0] * 9]]), torch.tensor([TARGET]))
    assert float(got) == pytest.approx(error / 4 + rest)


def test_the_best_constant_output_is_the_means_and_the_logs_of_the_shares() -> None:
    loss = column_loss(MSE, MIXED, [1.0] * 4)
    targets = torch.tensor([TARGET, [2.0, 0.0, 0.0, 1.0, 0, 1, 0, 0, 0, 1], TARGET, TARGET])
    assert loss.constant is not None
    best = loss.constant(targets.mean(dim=0)).requires_grad_()
    cost = loss(best.expand_as(targets), targets)
    (slope,) = torch.autograd.grad(cost, best)
    # n: variance 3/4; m is present and 0; shares of 1/4 cost -(log 1/4)/4 - 3 (log 3/4)/4, for m?, c and d alike.
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert float(cost.detach()) == pytest.approx((0.75 + 3 * entropy) / 4, abs=1e-3)
    torch.testing.assert_close(slope, torch.zeros(10), atol=1e-3, rtol=0)


def test_refuses_a_squashed_output() -> None:
    with pytest.raises(ConfigError, match=r"the loss mse\+cross_entropy needs logits of a table's"):
        check_pair(column_loss(MSE, MIXED, [1.0] * 4), ModelConfig(output="sigmoid"))


def test_refuses_a_loss_of_probabilities_for_categories() -> None:
    with pytest.raises(ConfigError, match=r"loss\.kind: expected bce_logits, mse, .*, found bce\. Use --set"):
        column_loss(LOSSES["bce"], MIXED, [1.0] * 4)


def test_numbers_may_be_logits() -> None:
    # Within [0, 4], the number 1 is the share 1/4: the logit 0 costs log 2, and the logit of 1/4 is log 1/3.
    edges = torch.zeros(2), torch.full((2,), 4.0)
    loss = column_loss(bounded(LOSSES["bce_logits"], *edges), MIXED, [1.0] * 4)
    target = torch.tensor([[1.0, 1.0, *TARGET[2:]]])
    assert float(loss(torch.zeros(1, 10), target)) == pytest.approx((5 * math.log(2) + math.log(4)) / 4)
    assert loss.constant is not None
    torch.testing.assert_close(loss.constant(target[0])[:2], torch.tensor([1 / 3, 1 / 3]).log())
