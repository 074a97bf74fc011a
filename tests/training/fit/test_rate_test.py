import contextlib
import copy
import math
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn, optim

from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import ModelConfig, OptimizerConfig, load_config
from lookalike.training.errors import ConfigError, TrainingError
from lookalike.training.fit.fitting import Fitting, prepare
from lookalike.training.fit.rate_test import RateTest, rate_test, smooth, suggest
from lookalike.training.fit.split import split_rows
from lookalike.training.history import State
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.losses import LOSSES
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.schedules import SCHEDULES
from tests.factories import array_rows, blobs

PLAN = FitPlan(epochs=1, batch_size=16, patience=1, seed=0, schedule=SCHEDULES["constant"])
SCALED = fit_preprocessor(blobs(200), "standard").apply(torch.from_numpy(blobs(200)))
DATA = Data(SCALED[:180], SCALED[180:])
DECADES = np.logspace(-6, 1, 141)


def small(kind: str = "adam", **changes: Any) -> tuple[nn.Module, optim.Optimizer]:
    torch.manual_seed(0)
    model = Autoencoder((6,), 2, ModelConfig(hidden=(16,), dropout=0.1, latent_noise=0.0))
    return model, build_optimizer(OptimizerConfig(kind=kind, **changes), model)  # type: ignore[arg-type]


def run_rate_test(kind: str = "adam", data: Data = DATA, **changes: Any) -> RateTest:
    model, optimizer = small(kind)
    return rate_test(model, LOSSES["mse"], optimizer, data, plan=PLAN, **changes)


def line_with_two_targets() -> tuple[nn.Module, Data]:
    """Rows of 1 with the targets 2 and 4, and a model of weight 0: the loss is (weight - 3)^2 + 1."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    rows, targets = torch.ones(64, 1), torch.tensor([[2.0], [4.0]]).repeat(32, 1)
    return model, Data(rows, rows, targets, targets)


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are equal to the last bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


WHOLE_BATCH = FitPlan(epochs=1, batch_size=64, patience=1, seed=0, schedule=SCHEDULES["constant"])


COARSE = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
"""Rates so far apart that smoothing does not change a loss."""


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 1.0, 0.7, 0.2, 0.9], 1e-1),
        ([1.0, 1.0, 0.25, 0.2, 0.9], 1e-1),  # 94 % of the fall is not enough
        ([1.0, 1.0, 0.23, 0.2, 0.9], 1e-2),  # 96 % is enough
        ([1.0, 0.9, 0.8, 0.7, 0.6], 1.0),
        ([0.70, 0.70, 0.69, 0.66, 0.66], 1e-1),  # even if most of the loss cannot be learned
        ([1.0, 0.0, 0.0, 0.0, 0.0], 1e-3),
    ],
)
def test_the_suggestion_is_the_lowest_rate_with_nearly_all_of_the_fall(losses: list[float], expected: float) -> None:
    assert suggest(COARSE, np.array(losses)) == expected


@pytest.mark.parametrize("losses", [[1.0] * 5, [0.0] * 5, [1.0, 1.1, 1.2, 2.0, 4.0]])
def test_refuses_to_suggest_if_the_loss_never_falls(losses: list[float]) -> None:
    with pytest.raises(TrainingError, match="loss: expected a rate at which the loss falls, found"):
        suggest(COARSE, np.array(losses))


@pytest.mark.parametrize("seed", range(20))
def test_refuses_to_suggest_from_noise(seed: int) -> None:
    with pytest.raises(TrainingError):
        suggest(list(DECADES), np.random.default_rng(seed).normal(1, 0.1, 141))


def test_finds_a_fall_under_noise() -> None:
    # The loss falls at a rate of 0.001 and then stays, so one of the next rates is suggested. As the loss stays
    # constant for long, noise may move the suggestion far to the right.
    falls = 1 - 0.5 * (DECADES > 1e-3)
    found = [suggest(list(DECADES), falls + np.random.default_rng(seed).normal(0, 0.1, 141)) for seed in range(100)]
    assert 1e-3 < min(found) < np.median(found) < 4e-3
    assert np.percentile(found, 90) < 0.1


def test_a_smoothed_straight_line_is_the_same_line_away_from_its_ends() -> None:
    line = np.linspace(2, 1, 141)
    np.testing.assert_allclose(smooth(list(DECADES), line)[15:-15], line[15:-15])


def test_smoothing_uses_a_gaussian_of_a_fifth_of_a_decade() -> None:
    # One loss of 1 among zeros, 20 steps per decade: 4 steps are one standard deviation, at e^(-1/2) of the peak.
    peak = np.zeros(141)
    peak[70] = 1
    smoothed = np.array(smooth(list(DECADES), peak))
    assert smoothed.argmax() == 70
    assert smoothed.sum() == pytest.approx(1)
    assert smoothed[[66, 74, 62]] / smoothed[70] == pytest.approx([math.exp(-0.5), math.exp(-0.5), math.exp(-2)])


@given(st.lists(st.floats(0, 100), min_size=2, max_size=60), st.floats(1.01, 3))
def test_a_smoothed_loss_stays_between_the_least_and_the_greatest(losses: list[float], factor: float) -> None:
    rates = [1e-6 * factor**step for step in range(len(losses))]
    smoothed = smooth(rates, np.array(losses))
    assert len(smoothed) == len(losses)
    assert min(losses) - 1e-9 <= min(smoothed) <= max(smoothed) <= max(losses) + 1e-9


def test_rates_rise_by_the_same_factor_from_the_lowest_to_the_highest() -> None:
    found = run_rate_test("sgd", between=(1e-6, 1e-2), steps=81)
    assert found.rates == pytest.approx(np.logspace(-6, -2, 81))
    assert len(found.losses) == 81


def test_ends_when_the_loss_diverges() -> None:
    # Gradient descent on a curvature of 2 converges below a rate of 2 / 2; above it the error grows at each step.
    # The error is never zero: batches differ in how many of their rows have the target 2 and how many 4.
    model, data = line_with_two_targets()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    found = rate_test(model, LOSSES["mse"], optimizer, data, plan=PLAN, between=(1e-4, 100.0), steps=300)
    assert 1 < found.rates[-1] < 3
    assert len(found.rates) == len(found.losses) < 300
    assert found.suggested < 1


def prepared(inputs: NDArray[np.float32], lines: tuple[str, ...]) -> Fitting:
    config = load_config(None, ["fit.epochs=40", "fit.device=cpu", "model.hidden=[64]", "data.validation=0.25", *lines])
    rows = array_rows(inputs)
    return prepare(rows, split_rows(rows, config, shown=False), config)


def best_loss_at(inputs: NDArray[np.float32], lines: tuple[str, ...], rate: float) -> float:
    """The best validation loss of a run at this learning rate."""
    state = State()
    with contextlib.suppress(TrainingError):
        prepared(inputs, (*lines, f"optimizer.lr={rate}")).run(state, Hooks())
    return min(epoch.validation_loss or math.inf for epoch in state.history)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("breast_cancer", ("data.max_bytes=24000",)),  # 200 rows
        ("wine", ("loss.kind=mse",)),
        ("wine", ("optimizer.kind=sgd",)),
    ],
)
def test_the_suggested_rate_trains_within_a_tenth_of_the_best_loss(name: str, lines: tuple[str, ...]) -> None:
    inputs = getattr(sklearn.datasets, f"load_{name}")().data.astype(np.float32)
    trial = prepared(inputs, lines)
    found = rate_test(trial.model, trial.loss, trial.optimizer, trial.data, plan=trial.plan)
    ends = {factor: best_loss_at(inputs, lines, factor * found.suggested) for factor in (0.1, 0.3, 1, 3, 10)}
    assert ends[1] <= 1.1 * min(ends.values())


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_leaves_model_optimizer_and_random_state_unchanged(kind: str) -> None:
    model, optimizer = small(kind)
    LOSSES["mse"](model(SCALED), SCALED).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients = copy.deepcopy([weights.grad for weights in model.parameters()])
    model.eval()
    random = torch.get_rng_state()
    rate_test(model, LOSSES["mse"], optimizer, DATA, plan=PLAN)
    assert same((model.state_dict(), optimizer.state_dict()), before)
    assert same([weights.grad for weights in model.parameters()], gradients)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), random)


def test_the_same_seed_suggests_the_same() -> None:
    torch.manual_seed(1)
    first = run_rate_test()
    torch.manual_seed(2)
    assert run_rate_test() == first


def test_the_suggestion_does_not_depend_on_the_optimizers_rate() -> None:
    model, optimizer = small(lr=1e-3)
    other_model, other = small(lr=0.5)
    one, two = (rate_test(m, LOSSES["mse"], o, DATA, plan=PLAN) for m, o in ((model, optimizer), (other_model, other)))
    assert one.rates == pytest.approx(two.rates)
    assert one.suggested == pytest.approx(two.suggested, rel=0.2)


def test_other_groups_keep_their_ratio_to_the_first() -> None:
    # The output is a * b, at first 1 * 1, and the target is 3: the gradient of a is 2 * (a * b - 3) * b, that of b
    # 2 * (a * b - 3) * a.
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in "ab"))
    for weights in model.parameters():
        nn.init.ones_(weights)
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(model, (0.2, 0.05), strict=True)]
    rows = torch.ones(64, 1)
    data = Data(rows, rows, 3 * rows, 3 * rows)
    optimizer = optim.SGD(groups)
    found = rate_test(model, LOSSES["mse"], optimizer, data, plan=WHOLE_BATCH, between=(1e-4, 1e-1), steps=80)
    a, b, expected = 1.0, 1.0, []
    for rate in found.rates:
        expected.append((a * b - 3) ** 2)
        wrong = 2 * (a * b - 3)
        a, b = a - rate * wrong * b, b - rate / 4 * wrong * a
    np.testing.assert_allclose(found.losses, smooth(found.rates, np.array(expected)), rtol=1e-3, atol=1e-6)


def test_uses_explicit_targets_and_corruption() -> None:
    seen: list[int] = []

    def record(clean: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(len(clean))
        return clean

    model, data = line_with_two_targets()
    plan = FitPlan(1, 16, patience=1, seed=0, schedule=SCHEDULES["constant"], corrupt=record)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    found = rate_test(model, LOSSES["mse"], optimizer, data, plan=plan, between=(1e-4, 0.5), steps=50)
    assert set(seen) == {16}
    assert len(seen) == 50
    assert found.losses[0] == pytest.approx(10, rel=0.02)  # an output of 0 for the targets 2 and 4
    assert found.losses[-1] == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"between": (0.0, 1.0)}, "rates"),
        ({"between": (-1.0, 1.0)}, "rates"),
        ({"between": (1.0, 1.0)}, "rates"),
        ({"between": (1.0, 0.1)}, "rates"),
        ({"between": (1e-7, math.inf)}, "rates"),
        ({"between": (math.nan, 1.0)}, "rates"),
        ({"steps": 39}, "steps"),
        ({"steps": 0}, "steps"),
    ],
)
def test_refuses_rates_that_do_not_rise_and_too_few_steps(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_rate_test(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("between", [(3.0, 100.0), (1e30, 1e38), (1e3, 1e4)])
def test_refuses_a_loss_that_jumps_at_once(between: tuple[float, float]) -> None:
    model, data = line_with_two_targets()
    descent = optim.SGD(model.parameters(), 1.0)
    with pytest.raises(TrainingError, match=r"a jump after [0-7] steps\. Begin at a lower rate"):
        rate_test(model, LOSSES["mse"], descent, data, plan=PLAN, between=between, steps=300)


@pytest.mark.parametrize(
    ("data", "field", "expected"),
    [
        (Data(SCALED[:0], SCALED), "rows", "at least one training row"),
        (Data(SCALED * math.nan, SCALED), "loss", "finite values at the lowest rates, from 1e-07 on"),
        (Data(SCALED * 0, SCALED), "loss", "a rate at which the loss falls"),
    ],
)
def test_refuses_rows_that_teach_nothing(data: Data, field: str, expected: str) -> None:
    with pytest.raises(TrainingError) as caught:
        run_rate_test(data=data)
    assert (caught.value.field, caught.value.expected) == (field, expected)
