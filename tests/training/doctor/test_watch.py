import contextlib
import json
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.watch import Watch

ONE_TWO = torch.tensor([[1.0], [2.0]])
OBSERVED = {0, 1, 2, 4, 8}


def line(weight: float = 0.0) -> nn.Linear:
    """weight * row, with no bias."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def train_steps(watch: Watch, model: nn.Module, optimizer: optim.Optimizer, rows: Tensor, steps: int = 1) -> None:
    """Train a model to reproduce its rows, in a plain loop."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(rows) - rows).square().mean()
        backward(loss)
        optimizer.step()
        watch.step(loss)


def descent(model: nn.Module, lr: float = 0.1) -> optim.SGD:
    return optim.SGD(model.parameters(), lr=lr)


def vitals_of_validation(model: nn.Module, rows: Tensor) -> dict[str, object]:
    """The vital signs of an epoch in which the model was validated but not trained."""
    with Watch(model, descent(model)) as watch:
        with torch.no_grad():
            model(rows)
        return watch.epoch()


def test_gradients_and_updates_of_a_linear_regression() -> None:
    # Weight 2 on the rows 1 and 2: the gradient is 2 * (2 - 1) * (1 + 4) / 2 = 5, and a step is 0.1 times the gradient.
    # Both halve at every step: gradients of 5, 2.5, 1.25, and updates of 0.5 / 2, 0.25 / 1.5, 0.125 / 1.25.
    model = line(2.0)
    optimizer = descent(model)
    with Watch(model, optimizer) as watch:
        train_steps(watch, model, optimizer, ONE_TWO, 3)
        vitals = watch.epoch()
    assert (vitals["first_norm"], vitals["worst_norm"]) == (5.0, 5.0)
    assert (vitals["first_gradient"], vitals["gradient"]) == ([5.0], [2.5])
    assert vitals["update"] == [pytest.approx(1 / 6, abs=1e-4)]
    assert vitals["losses"] == pytest.approx([2.5, 0.625, 0.1562], abs=1e-4)
    assert (vitals["first_loss"], vitals["worst_loss"], vitals["steps"], vitals["looks"]) == (2.5, 2.5, 3, 3)


def test_gradients_per_matrix_and_in_total() -> None:
    # Gradients of (3, 4) and of 12: root mean squares of 5 / sqrt(2) and 12, and a norm of 13. Biases are ignored.
    first, second = nn.Linear(2, 1), nn.Linear(1, 1)
    model = nn.ModuleList([first, second])
    optimizer = descent(model)
    with Watch(model, optimizer) as watch:
        loss = 3 * first.weight[0, 0] + 4 * first.weight[0, 1] + 12 * second.weight[0, 0] + 100 * first.bias.sum()
        backward(loss)
        optimizer.step()
        watch.step(loss)
        vitals = watch.epoch()
    assert vitals["first_gradient"] == pytest.approx([5 / math.sqrt(2), 12.0], rel=1e-3)
    assert vitals["first_norm"] == 13.0


@pytest.mark.parametrize("large", range(10))
def test_observes_the_steps_0_1_2_4_and_8_of_an_epoch(large: int) -> None:
    model = line()
    optimizer = descent(model, lr=0.0)
    with Watch(model, optimizer) as watch:
        for _ in range(2):  # epochs
            for number in range(10):
                optimizer.zero_grad()
                loss = model.weight.sum() * (100.0 if number == large else 1.0)
                backward(loss)
                optimizer.step()
                watch.step(loss)
            vitals = watch.epoch()
            assert (vitals["looks"], vitals["steps"]) == (5, 10)
            assert vitals["worst_norm"] == (100.0 if large in OBSERVED else 1.0)


@pytest.mark.parametrize(
    ("steps", "means"), [(20, [0.5 + 2 * part for part in range(10)]), (3, [0.0, 1.0, 2.0]), (0, [None])]
)
def test_losses_are_ten_means_in_order(steps: int, means: list[float | None]) -> None:
    with Watch(line(), descent(line())) as watch:
        for number in range(steps):
            watch.step(torch.tensor(float(number)))
        vitals = watch.epoch()
    assert vitals["losses"] == means
    assert (vitals["first_loss"], vitals["worst_loss"]) == ((0.0, steps - 1.0) if steps else (None, None))


class Loop:
    """Several orders of zero_grad, forward, backward and step."""

    def __init__(self) -> None:
        self.model = line()
        self.optimizer = descent(self.model, 0.01)

    def forward(self) -> Tensor:
        loss: Tensor = (self.model(ONE_TWO) - ONE_TWO).square().mean()
        return loss

    def zeroed_before_forward(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.forward()
        backward(loss)
        self.optimizer.step()
        return loss

    def zeroed_before_backward(self) -> Tensor:
        loss = self.forward()
        self.optimizer.zero_grad(set_to_none=False)
        backward(loss)
        self.optimizer.step()
        return loss

    def zeroed_after_the_step(self) -> Tensor:
        loss = self.forward()
        backward(loss)
        self.optimizer.step()
        self.model.zero_grad()
        return loss

    def accumulated(self) -> Tensor:
        self.optimizer.zero_grad()
        for _ in range(3):
            loss = self.forward()
            backward(loss)
        self.optimizer.step()
        return loss

    def forward_twice(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.forward() + self.forward()
        backward(loss)
        self.optimizer.step()
        return loss

    def never_zeroed(self) -> Tensor:
        loss = self.forward()
        backward(loss)
        self.optimizer.step()
        return loss


@pytest.mark.parametrize(
    ("step", "stale"),
    [
        (Loop.zeroed_before_forward, 0),
        (Loop.zeroed_before_backward, 0),
        (Loop.zeroed_after_the_step, 0),
        (Loop.accumulated, 0),
        (Loop.forward_twice, 0),
        (Loop.never_zeroed, 4),  # at steps 1, 2, 4 and 8 of the observed steps 0, 1, 2, 4 and 8
    ],
)
def test_detects_stale_gradients_of_earlier_steps_only(step: Callable[[Loop], Tensor], stale: int) -> None:
    loop = Loop()
    with Watch(loop.model, loop.optimizer) as watch:
        for _ in range(10):
            watch.step(step(loop))
        vitals = watch.epoch()
        assert (vitals["stale"], vitals["looks"]) == (stale, 5)
        watch.step(step(loop))
        assert watch.epoch()["stale"] == min(stale, 1)  # the previous step belongs to another epoch


@pytest.mark.parametrize("every", [2, 3, 4])
def test_gradient_accumulation_is_not_stale(every: int) -> None:
    loop = Loop()
    with Watch(loop.model, loop.optimizer) as watch:
        for batch in range(12):
            loss = loop.forward()
            backward(loss)
            watch.step(loss)  # called for each batch, although the optimizer steps less often
            if batch % every == every - 1:
                loop.optimizer.step()
                loop.optimizer.zero_grad()
        assert watch.epoch()["stale"] == 0


def frozen_norm() -> nn.Module:
    """A model in train mode whose batch norm is in eval mode, as in fine-tuning."""
    model = nn.Sequential(nn.BatchNorm1d(1), line())
    model[0].eval()
    return model


@pytest.mark.parametrize(
    ("model", "depends_on_mode"),
    [
        (nn.Sequential(nn.Dropout(0.1), line()), True),
        (nn.Sequential(nn.Sequential(nn.BatchNorm1d(1)), line()), True),
        (line(), False),
        (nn.Sequential(nn.LayerNorm(1), line(), nn.ReLU()), False),
        (nn.Sequential(nn.Dropout(0.0), line()), False),
        (nn.Sequential(nn.BatchNorm1d(1, track_running_stats=False), line()), False),
        (frozen_norm(), False),
    ],
)
def test_detects_validation_in_train_mode_if_it_matters(model: nn.Module, depends_on_mode: bool) -> None:
    assert vitals_of_validation(model, ONE_TWO)["train_mode"] is depends_on_mode
    assert vitals_of_validation(model.eval(), ONE_TWO)["train_mode"] is False


def test_accepts_training_in_train_mode() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1), line())
    optimizer = descent(model)
    with Watch(model, optimizer) as watch:
        train_steps(watch, model, optimizer, ONE_TWO, 3)
        assert watch.epoch()["train_mode"] is False
        with torch.inference_mode():
            model(ONE_TWO)
        assert watch.epoch()["train_mode"] is True


def half_dead() -> nn.Sequential:
    """Four ReLU units, three of which are zero for the rows 1 and 2, and one output."""
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    model.load_state_dict(
        {
            "0.weight": torch.ones(4, 1),
            "0.bias": torch.tensor([0.0, -9.0, -9.0, -9.0]),
            "2.weight": torch.full((1, 4), 0.5),
            "2.bias": torch.zeros(1),
        }
    )
    return model


def test_counts_dead_units_per_layer() -> None:
    model = half_dead()
    optimizer = descent(model, 0.01)
    with Watch(model, optimizer) as watch:
        train_steps(watch, model, optimizer, ONE_TWO, 3)
        assert watch.epoch()["dead"] == [0.75, 0.0]
        train_steps(watch, model, optimizer, torch.tensor([[1.0]]))
        train_steps(watch, model, optimizer, torch.tensor([[20.0]]))  # once is enough to be alive
        assert watch.epoch()["dead"] == [0.0, 0.0]


def test_frozen_layers_are_not_dead() -> None:
    model = nn.Sequential(line(1.0), line(0.5))
    model[0].requires_grad_(False)
    optimizer = optim.SGD(model[1].parameters(), lr=0.01)
    with Watch(model, optimizer) as watch:
        train_steps(watch, model, optimizer, ONE_TWO)
        vitals = watch.epoch()
    assert (vitals["dead"], len(vitals["first_gradient"])) == ([0.0], 1)


class WithEncoder(nn.Module):
    """A model whose `encoder` returns three columns unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.encoder.weight)
        self.narrow = nn.Linear(3, 1)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.narrow(self.encoder(rows))
        return answer


CROSS = torch.tensor([[2.0, 0.0, 7.0], [-2.0, 0.0, 7.0], [0.0, 1.0, 7.0], [0.0, -1.0, 7.0]])
"""Variances of 2, 1/2 and 0: an effective rank of (2 + 1/2)^2 / (4 + 1/4) = 25 / 17, and one of three dead."""


def test_latent_signs_follow_from_the_covariance() -> None:
    latent = vitals_of_validation(WithEncoder(), CROSS)["latent"]
    expected = {"dead": 1 / 3, "rank": 25 / 17, "deviation": math.sqrt(0.5)}
    assert latent == pytest.approx(expected, rel=1e-3)


def test_the_narrowest_linear_layer_is_the_latent_layer_without_an_encoder() -> None:
    wide, narrow, back = nn.Linear(3, 4), nn.Linear(4, 2, bias=False), nn.Linear(2, 3)
    for part in (wide, narrow, back):
        nn.init.eye_(part.weight)
    nn.init.zeros_(wide.bias)
    latent = vitals_of_validation(nn.Sequential(wide, narrow, back), CROSS)["latent"]
    assert latent == pytest.approx({"dead": 0.0, "rank": 25 / 17, "deviation": math.sqrt(0.5)}, rel=1e-3)


@pytest.mark.parametrize("rows", [CROSS[:1], torch.full((4, 3), math.nan)])
def test_no_latent_signs_for_one_row_or_nonfinite_values(rows: Tensor) -> None:
    assert vitals_of_validation(WithEncoder(), rows)["latent"] is None


def test_latent_signs_use_a_limited_number_of_rows() -> None:
    model = WithEncoder()
    with Watch(model, descent(model)) as watch:
        with torch.no_grad():
            model(torch.cat([CROSS] * 200))  # 800 rows
            model(100 * torch.randn(50, 3))  # beyond the limit
        latent = watch.epoch()["latent"]
    assert latent["rank"] == pytest.approx(25 / 17, rel=1e-3)


def hooks_of(model: nn.Module, optimizer: optim.Optimizer) -> int:
    on_optimizer = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    return on_optimizer + sum(len(part._forward_hooks) for part in model.modules())


@pytest.mark.parametrize("broken", [False, True])
def test_removes_its_hooks_at_the_end(broken: bool) -> None:
    model = nn.Sequential(nn.Dropout(), line(), nn.Tanh())
    optimizer = descent(model)
    with contextlib.suppress(KeyboardInterrupt), Watch(model, optimizer) as watch:
        assert (
            hooks_of(model, optimizer) == 5
        )  # two on the optimizer, one on the model, one on its latent layer, one on its matrix
        train_steps(watch, model, optimizer, ONE_TWO)
        if broken:
            raise KeyboardInterrupt
    assert hooks_of(model, optimizer) == 0


def test_does_not_influence_training() -> None:
    def trained(watched: bool) -> tuple[dict[str, Tensor], Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = optim.Adam(model.parameters(), 0.01)
        watch = Watch(model, optimizer)
        if watched:
            watch.__enter__()
        train_steps(watch, model, optimizer, ONE_TWO, 9)
        watch.epoch()
        return model.state_dict(), torch.random.get_rng_state()

    (plain, drawn), (seen, also_drawn) = trained(watched=False), trained(watched=True)
    assert all(torch.equal(plain[name], seen[name]) for name in plain)
    assert torch.equal(drawn, also_drawn)


@pytest.mark.parametrize("rows", [ONE_TWO * math.nan, ONE_TWO * math.inf, ONE_TWO])
def test_vital_signs_are_plain_json_even_if_training_fails(rows: Tensor) -> None:
    model = nn.Sequential(line(1.0), nn.Tanh(), line(1.0))
    optimizer = descent(model)
    with Watch(model, optimizer) as watch:
        train_steps(watch, model, optimizer, rows, 3)
        with torch.no_grad():
            model(rows)
        vitals = watch.epoch()
        assert json.loads(json.dumps(vitals, allow_nan=False)) == vitals
        assert json.dumps(watch.epoch(), allow_nan=False)  # an epoch without a step
    if not torch.isfinite(rows).all():
        assert (vitals["first_loss"], vitals["losses"], vitals["first_norm"]) == (None, [None] * 3, None)


class UnusualModule(nn.Module):
    """A module that returns a pair, as does its encoder, and whose only weight is not a matrix."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            return self.scale * rows, rows

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.Pair()

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        pair: tuple[Tensor, Tensor] = self.encoder(rows)
        return pair


def test_observes_an_unusual_module_in_a_custom_loop() -> None:
    model = UnusualModule()
    optimizer = optim.Adam(model.parameters())
    with Watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            once, twice = model(ONE_TWO)
            loss = (once - 2 * twice).square().mean()
            backward(loss)
            optimizer.step()
            watch.step(loss)
        with torch.no_grad():
            model(ONE_TWO)
        vitals = watch.epoch()
    assert (vitals["steps"], vitals["losses"][0], vitals["latent"]) == (3, 2.5, None)
    assert json.dumps(vitals, allow_nan=False)
