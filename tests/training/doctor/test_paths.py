"""Each way to lose a gradient shows at its own place on the path."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.watch import Watch

ROWS = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    """Two matrices with a function between them."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda hidden: hidden) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Linear(4, 3), nn.Linear(3, 4), between

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.second(self.between(self.first(rows)))
        return answer


def vitals_of(
    model: Two,
    *,
    optimizer: optim.Optimizer | None = None,
    before: Callable[[Two, Any], object] = lambda model, optimizer: None,
    after: Callable[[Two, Any], object] = lambda model, optimizer: None,
    steps: bool = True,
    epochs: int = 1,
) -> dict[str, Any]:
    torch.manual_seed(0)
    optimizer = optimizer or optim.SGD(model.parameters(), lr=0.1)
    with Watch(model, optimizer) as watch:
        for _ in range(epochs):
            for _ in range(4):
                optimizer.zero_grad()
                loss = (model(ROWS) - ROWS).square().mean()
                loss.backward()
                before(model, optimizer)
                if steps:
                    optimizer.step()
                after(model, optimizer)
                watch.step(loss)
            vitals = watch.epoch()
    return vitals


def test_a_healthy_path() -> None:
    vitals = vitals_of(Two())
    assert [vitals[name] for name in ("reached", "arrived", "used", "moved")] == [[1.0, 1.0]] * 4
    assert (vitals["kept"], vitals["turned"], vitals["along_first"]) == (1.0, 1.0, 1.0)
    assert (vitals["undone"], vitals["returned"], vitals["lost"], vitals["moves"]) == (0.0, False, 0, 4)
    assert (vitals["rates"], vitals["still"], vitals["frozen"]) == ([0.1, 0.1], [0.0, 0.0], [False, False])


def test_a_detached_part_gets_none_and_a_rounded_one_gets_zero() -> None:
    assert vitals_of(Two(lambda hidden: hidden.detach()))["reached"] == [0.0, 1.0]
    rounded = vitals_of(Two(torch.round))
    assert (rounded["reached"], rounded["arrived"], rounded["lit"][1] > 0) == ([1.0, 1.0], [0.0, 1.0], True)


@pytest.mark.parametrize("none", [True, False])
def test_a_gradient_that_is_zeroed_arrives_and_is_not_used(none: bool) -> None:
    vitals = vitals_of(Two(), before=lambda model, optimizer: model.first.zero_grad(set_to_none=none))
    assert (vitals["arrived"], vitals["used"], vitals["moved"]) == ([1.0, 1.0], [0.0, 1.0], [0.0, 1.0])


def test_clipping_keeps_the_direction_and_a_reversal_does_not() -> None:
    clipped = vitals_of(Two(), before=lambda model, _: nn.utils.clip_grad_norm_(model.parameters(), 1e-6))
    assert clipped["kept"] < 1e-4
    assert clipped["turned"] == pytest.approx(1.0, abs=1e-3)

    def reverse(model: Two, _: object) -> None:
        for weights in model.parameters():
            assert weights.grad is not None
            weights.grad.neg_()

    assert vitals_of(Two(), before=reverse)["turned"] == pytest.approx(-1.0, abs=1e-3)


def test_a_maximizing_optimizer_moves_against_the_descent() -> None:
    model = Two()
    vitals = vitals_of(model, optimizer=optim.SGD(model.parameters(), lr=0.1, maximize=True))
    assert vitals["along_first"] == pytest.approx(-1.0, abs=1e-3)


def test_weights_that_something_else_changes_or_returns() -> None:
    def shake(model: Two, _: object) -> None:
        with torch.no_grad():
            model.first.weight.add_(0.1)

    assert vitals_of(Two(), after=shake)["undone"] > 0.5
    model = Two()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert vitals_of(model, after=lambda model, _: model.load_state_dict(start))["returned"] is True


def test_a_lost_state_and_another_optimizer() -> None:
    model = Two()
    adam = optim.Adam(model.parameters())
    assert vitals_of(model, optimizer=adam, after=lambda _, optimizer: optimizer.state.clear())["lost"] >= 2
    other = vitals_of(Two(), before=lambda model, _: optim.SGD(model.parameters(), 0.1).step(), steps=False)
    assert (other["moves"], other["edited"]) == (0, True)
    never = vitals_of(Two(), steps=False)
    assert (never["moves"], never["edited"]) == (0, False)
