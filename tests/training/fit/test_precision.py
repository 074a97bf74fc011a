from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn, optim

from lookalike.training.config import FitConfig
from lookalike.training.errors import ConfigError
from lookalike.training.fit import precision, step_cost
from lookalike.training.fit.precision import Precision, choose_bf16, is_worth_it
from lookalike.training.models.losses import LOSSES

MSE = LOSSES["mse"]
ROWS = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


class PrecisionRecorder(nn.Module):
    """A linear autoencoder with dropout that records the precision of each training step."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.seen: list[torch.dtype] = []

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.inner(rows)
        if self.training:
            self.seen.append(self.inner[0](rows).dtype)
        return answer

    def __deepcopy__(self, memo: dict[int, Any]) -> "PrecisionRecorder":
        copied = PrecisionRecorder()
        copied.load_state_dict(self.state_dict())
        copied.seen = self.seen  # also records the steps of the copy
        memo[id(self)] = copied
        memo |= {id(a): b for a, b in zip(self.parameters(), copied.parameters(), strict=True)}
        return copied


def chosen(requested: Precision, model: nn.Module) -> bool:
    return choose_bf16(requested, model, MSE, optim.Adam(model.parameters(), lr=0.1), ROWS)


@pytest.fixture
def no_step_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "SHORT_STEP", 0)


@pytest.fixture(params=[True, False])
def bf16_wins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    wins = bool(request.param)
    monkeypatch.setattr(precision, "is_worth_it", lambda fp32, bf16: wins)
    return wins


def test_precision_accepts_the_same_values_as_the_settings() -> None:
    assert get_args(Precision) == get_args(FitConfig.__annotations__["precision"])


@pytest.mark.usefixtures("no_step_is_short")
@pytest.mark.parametrize(("requested", "bf16"), [("fp32", False), ("bf16", True)])
def test_an_explicit_precision_needs_no_measurement(requested: Precision, bf16: bool) -> None:
    model = PrecisionRecorder()
    assert chosen(requested, model) is bf16
    assert model.seen == []


def test_a_short_step_stays_in_fp32_without_a_measurement() -> None:
    model = PrecisionRecorder()
    assert chosen("auto", model) is False
    assert model.seen == []


@pytest.mark.usefixtures("no_step_is_short")
def test_auto_measures_both_alternately_and_chooses_the_faster(bf16_wins: bool) -> None:
    model = PrecisionRecorder()
    assert chosen("auto", model) is bf16_wins
    assert model.seen == [torch.float32, torch.bfloat16] * 6


@pytest.mark.usefixtures("no_step_is_short", "bf16_wins")
def test_measuring_leaves_weights_optimizer_and_random_state_unchanged() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)).eval()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.get_rng_state()
    choose_bf16("auto", model, MSE, optimizer, ROWS)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert optimizer.state_dict()["state"] == {}
    assert all(weights.grad is None for weights in model.parameters())


@pytest.mark.parametrize(
    ("fp32", "bf16", "worth"),
    [
        ([1.15, 9.0], [9.0, 1.0], True),  # the shortest times count: 15 % faster
        ([1.14, 9.0], [9.0, 1.0], False),
        ([1.0], [2.0], False),
        ([2.0], [1.0], True),
    ],
)
def test_bf16_must_be_faster_by_15_percent(fp32: list[float], bf16: list[float], worth: bool) -> None:
    assert is_worth_it(fp32, bf16) is worth


@pytest.mark.parametrize(("requested", "bf16"), [("auto", False), ("fp32", False)])
@pytest.mark.usefixtures("no_step_is_short")
def test_never_chooses_bf16_if_the_device_lacks_it(
    requested: Precision, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsupported: Callable[[torch.device], bool] = lambda device: False  # noqa: E731
    monkeypatch.setattr(precision, "_supports_bf16", unsupported)
    assert chosen(requested, PrecisionRecorder()) is bf16


def test_refuses_bf16_if_the_device_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_supports_bf16", lambda device: False)
    with pytest.raises(ConfigError, match=r"fit.precision: expected fp32 or auto on this device, found bf16\."):
        chosen("bf16", PrecisionRecorder())
