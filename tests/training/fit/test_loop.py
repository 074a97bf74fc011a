import dataclasses
import math
from collections.abc import Callable
from itertools import dropwhile

import pytest
import torch
from torch import Generator, Tensor, nn, optim

from lookalike.training.config import OptimizerConfig
from lookalike.training.fit.loop import fit
from lookalike.training.history import State
from lookalike.training.models.losses import LOSSES
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.schedules import build_schedule

ONE_TWO = torch.tensor([[1.0], [2.0]])
MANY = torch.arange(1.0, 12.0)[:, None]  # (11, 1)


def line(weight: float = 0.0) -> nn.Linear:
    """A linear regression of a row on itself: the output is weight * row."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def plan_for(rate: float | Callable[[float], float] = 0.1, **changes: object) -> FitPlan:
    """`rate` is the learning rate, or a function of the completed share of the run that returns it."""
    at = rate if callable(rate) else lambda done: rate
    plan = FitPlan(epochs=1, batch_size=2, patience=100, seed=0, schedule=lambda done, losses: at(done))
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def fitted(
    model: nn.Module,
    plan: FitPlan,
    train: Tensor = ONE_TWO,
    validation: Tensor = ONE_TWO[1:],
    hooks: Hooks | None = None,
) -> State:
    """Train by plain gradient descent on the mean squared error."""
    return fit_sgd(model, plan, Data(train, validation), hooks=hooks)


def fit_sgd(
    model: nn.Module, plan: FitPlan, data: Data, *, loss: str = "mse", hooks: Hooks | None = None, lr: float = 1.0
) -> State:
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return fit(model, LOSSES[loss], optimizer, data, plan=plan, hooks=hooks or Hooks(), state=State())


def losses(state: State) -> list[tuple[float | None, float | None]]:
    return [(epoch.train_loss, epoch.validation_loss) for epoch in state.history]


class ModeRecorder(nn.Module):
    """Returns a weight times the row, and records the mode and the batch size of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = line()
        self.seen: list[tuple[bool, int]] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.seen.append((self.training, len(rows)))
        answer: Tensor = self.inner(rows)
        return answer


def test_one_epoch_is_one_gradient_step_of_linear_regression() -> None:
    # Rows 1 and 2, weight 0: the loss is (1 + 4) / 2, its gradient 2 * (0 - 1) * (1 + 4) / 2 = -5, so the
    # weight becomes 0.1 * 5, and the output for the validation row 2 is 1.
    model = line()
    state = fitted(model, plan_for(0.1))
    assert model.weight.item() == pytest.approx(0.5)
    assert losses(state) == [pytest.approx((2.5, 1.0))]


def test_gradients_are_zeroed_before_every_step() -> None:
    # From 0.5 the gradient is -2.5; with the -5 of the first step added, the weight would become 1.25.
    model = line()
    fitted(model, plan_for(0.1, epochs=2))
    assert model.weight.item() == pytest.approx(0.75)


def test_every_epoch_visits_every_row_once_in_a_new_order() -> None:
    seen: list[list[float]] = [[]]

    def record(clean: Tensor, generator: Generator) -> Tensor:
        if torch.is_grad_enabled():  # otherwise the batch is not a training batch
            seen[-1] += clean.flatten().tolist()
        return clean

    hooks = Hooks(on_epoch=lambda state: seen.append([]))
    fitted(line(), plan_for(0.0, epochs=3, corrupt=record), MANY, ONE_TWO, hooks)
    epochs = [
        epoch[-len(MANY) :] for epoch in seen[:3]
    ]  # the first list also contains the rows seen while the facts are collected
    assert all(sorted(epoch) == MANY.flatten().tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_trains_and_validates_in_the_right_mode_with_balanced_batches() -> None:
    model = ModeRecorder()
    fitted(model, plan_for(0.0, epochs=2, batch_size=4), MANY, ONE_TWO)
    epoch = [(True, 4), (True, 4), (True, 3), (False, 2)]
    assert list(dropwhile(lambda ask: not ask[0], model.seen)) == epoch * 2
    assert not model.training


def test_losses_are_means_over_rows_if_batches_differ_in_size() -> None:
    # With weight 0 the loss is the mean of the squares of 1 to 11: 506 / 11.
    history = fitted(line(), plan_for(0.0, batch_size=4), MANY, MANY).history
    assert (history[0].train_loss, history[0].validation_loss) == pytest.approx((46.0, 46.0))


def test_batch_norm_learns_its_statistics_from_training_rows_only() -> None:
    # One batch of mean 1.5 and unbiased variance 0.5, momentum 0.1, from 0 and 1.
    norm = nn.BatchNorm1d(1)
    fitted(nn.Sequential(norm, line()), plan_for(0.0), ONE_TWO, torch.full((5, 1), 1_000.0))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert (norm.running_mean.item(), norm.running_var.item()) == pytest.approx((0.15, 0.95))


def test_dropout_is_active_in_training_only() -> None:
    # With weight 1 the output is exact without dropout. A dropped row becomes 0 and a kept row is doubled, so the
    # error of each row is its square.
    state = fitted(nn.Sequential(nn.Dropout(0.5), line(1.0)), plan_for(0.0), MANY, MANY)
    assert state.history[0].train_loss == pytest.approx(46.0)
    assert state.history[0].validation_loss == 0


def test_the_target_of_a_corrupted_row_is_the_clean_row() -> None:
    # The model sees zeros only, so its weight cannot change and the loss stays the mean square of the clean rows.
    model = line(0.7)
    plan = plan_for(0.1, epochs=2, corrupt=lambda clean, generator: torch.zeros_like(clean))
    state = fitted(model, plan, MANY, MANY)
    assert model.weight.item() == pytest.approx(0.7)
    assert losses(state) == [pytest.approx((46.0, 46.0))] * 2


def test_validation_noise_is_fixed_and_training_noise_changes() -> None:
    def noisy(clean: Tensor, generator: Generator) -> Tensor:
        return clean + torch.randn(clean.shape, generator=generator)

    history = fitted(line(1.0), plan_for(0.0, epochs=3, corrupt=noisy), MANY, MANY).history
    assert len({epoch.validation_loss for epoch in history}) == 1
    assert len({epoch.train_loss for epoch in history}) == 3


def overshooting(done: float) -> float:
    """Rates for three epochs of one step: the weight becomes 0.8, then far more than 1, then stays."""
    return [0.16, 10.0, 0.0][round(done * 3)]


def test_the_model_ends_with_its_best_weights() -> None:
    model = line()
    state = fitted(model, plan_for(overshooting, epochs=3))
    assert model.weight.item() == pytest.approx(0.8)
    assert state.best_epoch == 1
    assert [(epoch.validation_loss or 0) > 1 for epoch in state.history] == [False, True, True]
    assert state.best_weights["weight"].item() == pytest.approx(0.8)


def test_stops_when_patience_runs_out() -> None:
    state = fitted(line(), plan_for(0.0, epochs=50, patience=3))
    assert (len(state.history), state.best_epoch, state.stopped) == (4, 1, "patience")


def test_a_better_epoch_resets_patience() -> None:
    # The rate is 0.1 up to epoch 3 and then 0, so epoch 3 is the last that improves.
    state = fitted(line(), plan_for(lambda done: 0.1 if done < 0.05 else 0.0, epochs=50, patience=3))
    assert (len(state.history), state.best_epoch, state.stopped) == (6, 3, "patience")


def test_finishes_after_the_planned_epochs() -> None:
    state = fitted(line(), plan_for(0.01, epochs=4))
    assert ([epoch.number for epoch in state.history], state.stopped) == ([1, 2, 3, 4], "finished")


def test_a_hook_can_stop_the_run_after_an_epoch() -> None:
    seen: list[int] = []
    hooks = Hooks(on_epoch=lambda state: seen.append(len(state.history)), should_stop=lambda: len(seen) == 1)
    state = fitted(line(), plan_for(0.01, epochs=4), hooks=hooks)
    assert (seen, state.stopped) == ([1, 2], "interrupted")


def test_hooks_are_called_for_every_step_and_with_the_reason_to_stop() -> None:
    steps: list[tuple[int, int]] = []
    reasons: list[str] = []
    hooks = Hooks(
        on_step=lambda step, of: steps.append((step, of)), on_epoch=lambda state: reasons.append(state.stopped)
    )
    fitted(line(), plan_for(0.0, epochs=3, batch_size=4), MANY, hooks=hooks)
    assert steps == 3 * [(1, 3), (2, 3), (3, 3)]
    assert reasons == ["", "", "finished"]


def test_the_rate_follows_the_schedule_step_by_step() -> None:
    # Rows of 1 and -1, a rate of 0.1 and then 0: the gradient at weight 0 is -2 and is applied in the first half only.
    model = line()
    halves = plan_for(lambda done: 0.1 if done < 0.5 else 0.0, epochs=1, batch_size=1)
    fitted(model, halves, torch.tensor([[1.0], [-1.0]]))
    assert model.weight.item() == pytest.approx(0.2)
    # Four steps in each of two epochs; the history contains the rate of an epoch's last step.
    history = fitted(line(), plan_for(lambda done: 1e-3 * (1 - done), epochs=2, batch_size=3), MANY).history
    assert [epoch.learning_rate for epoch in history] == pytest.approx([1e-3 * 5 / 8, 1e-3 * 1 / 8])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    first, second, other = (
        fitted(nn.Sequential(nn.Dropout(0.3), line()), plan_for(1e-3, epochs=3, seed=s), MANY) for s in (seed, seed, 9)
    )
    assert losses(first) == losses(second)
    assert losses(first) != losses(other)


def test_uses_explicit_targets() -> None:
    # The targets of rows 1 and 2 are 3 and 6: at weight 0 the loss is (9 + 36) / 2 and its gradient -(3 + 12), so
    # the weight becomes 1.5, and the output for the validation row 2 is 3 instead of the target 5.
    model = line()
    data = Data(ONE_TWO, ONE_TWO[1:], 3 * ONE_TWO, torch.tensor([[5.0]]))
    assert losses(fit_sgd(model, plan_for(0.1), data)) == [pytest.approx((22.5, 4.0))]
    assert model.weight.item() == pytest.approx(1.5)


def test_targets_follow_their_rows_through_shuffling() -> None:
    # If a row were paired with the target of another row, the weight would not stay at 3.
    model = line(3.0)
    history = fit_sgd(model, plan_for(1e-3, epochs=3, batch_size=4), Data(MANY, MANY, 3 * MANY, 3 * MANY)).history
    assert model.weight.item() == pytest.approx(3.0)
    assert [epoch.train_loss for epoch in history] == pytest.approx([0.0] * 3, abs=1e-9)


def test_classes_are_learned_from_logits() -> None:
    # With equal logits the loss is ln 2; rows below 0 have class 0 and rows above 0 have class 1.
    rows = torch.linspace(-1, 1, 40)[:, None]
    model = nn.Linear(1, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    data = Data(rows, rows, (rows[:, 0] > 0).long(), (rows[:, 0] > 0).long())
    state = fit_sgd(model, plan_for(1.0, epochs=60, batch_size=40), data, loss="cross_entropy")
    assert state.history[0].train_loss == pytest.approx(math.log(2))
    assert bool((model(rows).argmax(dim=1) == data.train_targets).all())


def test_clips_the_norm_of_all_gradients_together() -> None:
    # The row (1, 2) has the target 0 and the weights are 2 and 1: the output is 4 and the gradient 2 * 4 * (1, 2), of
    # norm 8 * sqrt(5). Clipped to norm 0.5 it keeps its direction: (1, 2) / sqrt(5) / 2.
    model = nn.Linear(2, 1, bias=False)
    model.load_state_dict({"weight": torch.tensor([[2.0, 1.0]])})
    row, target = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1)
    fit_sgd(model, plan_for(1.0, clip=0.5), Data(row, row, target, target))
    step = 0.5 / math.sqrt(5)
    assert model.weight[0].tolist() == pytest.approx([2 - step, 1 - 2 * step])


def test_leaves_a_gradient_below_the_clip_unchanged() -> None:
    model = line()
    fitted(model, plan_for(0.1, clip=5.01))  # the gradient of the first test, -5
    assert model.weight.item() == pytest.approx(0.5)


def test_bf16_learns_like_fp32_and_keeps_weights_in_float32() -> None:
    kinds: list[torch.dtype] = []
    rows = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))

    def run(bf16: bool) -> State:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 16))
        model[0].register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
        state = fitted(model, plan_for(0.5, epochs=40, batch_size=16, bf16=bf16), rows, rows)
        assert {weights.dtype for weights in model.parameters()} == {torch.float32}
        return state

    exact = run(bf16=False)
    assert set(kinds) == {torch.float32}
    rounded = run(bf16=True)
    assert torch.bfloat16 in kinds
    assert losses(exact) != losses(rounded)
    first, last = exact.history[0].train_loss, exact.history[-1].train_loss
    assert first is not None
    assert last is not None
    assert last < first / 2
    assert [e.train_loss for e in rounded.history] == pytest.approx([e.train_loss for e in exact.history], rel=0.02)


def test_a_schedule_receives_the_validation_losses_so_far() -> None:
    # The loss of the row 0 cannot improve, so no epoch is better than the first: the rate halves every five epochs.
    schedule = build_schedule(OptimizerConfig(schedule="plateau"))
    state = fit_sgd(line(), plan_for(schedule=schedule, epochs=12), Data(ONE_TWO, torch.zeros(1, 1)), lr=0.08)
    assert [epoch.learning_rate for epoch in state.history] == [0.08] * 6 + [0.04] * 5 + [0.02]


def test_every_parameter_group_follows_the_schedule_from_its_initial_rate() -> None:
    # The output is a * b * row with a = b = 1 and the target is 0. The only row is 1, so both weights have the
    # gradient 2. Half of their rates 0.2 and 0.04 moves them to 0.8 and 0.96.
    model = nn.Sequential(line(1.0), line(1.0))
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(model, (0.2, 0.04), strict=True)]
    row, target = torch.ones(1, 1), torch.zeros(1, 1)
    data = Data(row, row, target, target)
    fit(model, LOSSES["mse"], optim.SGD(groups), data, plan=plan_for(0.5), hooks=Hooks(), state=State())
    assert [weights.item() for weights in model.parameters()] == pytest.approx([0.8, 0.96])


@pytest.mark.parametrize(("rate", "epochs"), [(1e25, 1), (1e10, 2)])
def test_a_nonfinite_loss_ends_the_run_and_is_none_in_the_history(rate: float, epochs: int) -> None:
    reasons: list[str] = []
    hooks = Hooks(on_epoch=lambda state: reasons.append(state.stopped))
    state = fitted(line(), plan_for(rate, epochs=9), hooks=hooks)
    assert (len(state.history), state.stopped, reasons[-1]) == (epochs, "hopeless", "hopeless")
    assert None in losses(state)[-1]


def test_a_run_with_a_nonfinite_loss_ends_with_its_best_weights() -> None:
    model = line()
    state = fitted(model, plan_for(lambda done: 0.1 if done < 0.5 else 1e25, epochs=2))
    assert (state.stopped, state.best_epoch) == ("hopeless", 1)
    assert model.weight.item() == pytest.approx(0.5)


def test_collects_the_facts_once_before_the_first_step() -> None:
    state = fitted(line(), plan_for(0.1, epochs=2))
    assert state.facts["rows"] == 2
    kept = dict(state.facts)
    optimizer = optim.SGD(line().parameters(), lr=1.0)
    fit(line(), LOSSES["mse"], optimizer, Data(MANY, MANY), plan=plan_for(), hooks=Hooks(), state=state)
    assert state.facts == kept


def test_every_epoch_has_vital_signs() -> None:
    history = fitted(line(), plan_for(0.1, epochs=2, batch_size=4), MANY).history
    assert [epoch.vitals["steps"] for epoch in history] == [3, 3]
