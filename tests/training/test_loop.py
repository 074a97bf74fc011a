import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn, optim

from training.errors import TrainingError
from training.loop import Data, FitPlan, Hooks, State, fit
from training.optim import Schedule

ONE_TWO = torch.tensor([[1.0], [2.0]])
MANY = torch.arange(1.0, 12.0)[:, None]  # (11, 1)


def line(weight: float = 0.0) -> nn.Linear:
    """A linear regression of a row on itself: the answer is weight * row."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def planned(schedule: float | Schedule = 0.1, **changes: object) -> FitPlan:
    rate: Schedule = schedule if callable(schedule) else lambda done: schedule
    plan = FitPlan(epochs=1, batch_size=2, patience=100, seed=0, schedule=rate)
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def fitted(
    model: nn.Module,
    plan: FitPlan,
    train: Tensor = ONE_TWO,
    validation: Tensor = ONE_TWO[1:],
    hooks: Hooks | None = None,
) -> State:
    """Plain gradient descent on the mean square."""
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    return fit(
        model, nn.MSELoss(), optimizer, Data(train, validation), plan=plan, hooks=hooks or Hooks(), state=State()
    )


class Modes(nn.Module):
    """Answers with a weight times the row, and notes in which mode it was asked."""

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
    # weight comes to 0.1 * 5, and the validation row 2 is answered with 1.
    model = line()
    state = fitted(model, planned(0.1))
    assert model.weight.item() == pytest.approx(0.5)
    assert [(e.train_loss, e.validation_loss) for e in state.history] == [pytest.approx((2.5, 1.0))]


def test_gradients_are_zeroed_before_every_step() -> None:
    # From 0.5 the gradient is -2.5; had the -5 of the first step been kept, the weight would come to 1.25.
    model = line()
    fitted(model, planned(0.1, epochs=2))
    assert model.weight.item() == pytest.approx(0.75)


def test_every_epoch_visits_every_row_once_in_an_order_of_its_own() -> None:
    seen: list[list[float]] = [[]]

    def noting(clean: Tensor, generator: Generator) -> Tensor:
        seen[-1] += clean.flatten().tolist()
        return clean

    hooks = Hooks(on_epoch=lambda state: seen.append([]))
    fitted(line(), planned(0.0, epochs=3, corrupt=noting), MANY, MANY[:0].reshape(0, 1).new_ones(1, 1), hooks)
    epochs = [epoch[: len(MANY)] for epoch in seen[:3]]  # what follows is the validation row
    assert all(sorted(epoch) == MANY.flatten().tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_it_trains_in_train_mode_and_validates_in_eval_mode_in_batches_equal_to_within_a_row() -> None:
    model = Modes()
    fitted(model, planned(0.0, epochs=2, batch_size=4), MANY, ONE_TWO)
    epoch = [(True, 4), (True, 4), (True, 3), (False, 2)]
    assert model.seen == epoch * 2
    assert not model.training


def test_losses_are_means_over_rows_though_batches_differ_in_size() -> None:
    # With weight 0 the loss is the mean of the squares of 1 to 11: 506 / 11.
    history = fitted(line(), planned(0.0, batch_size=4), MANY, MANY).history
    assert (history[0].train_loss, history[0].validation_loss) == pytest.approx((46.0, 46.0))


def test_batch_norm_learns_its_statistics_from_training_rows_only() -> None:
    # One batch of mean 1.5 and unbiased variance 0.5, momentum 0.1, from 0 and 1.
    norm = nn.BatchNorm1d(1)
    fitted(nn.Sequential(norm, line()), planned(0.0), ONE_TWO, torch.full((5, 1), 1_000.0))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert (norm.running_mean.item(), norm.running_var.item()) == pytest.approx((0.15, 0.95))


def test_dropout_acts_in_training_only() -> None:
    # Weight 1 answers right; a dropped row is answered with 0 and one that stays with twice itself, so each is
    # wrong by its square.
    state = fitted(nn.Sequential(nn.Dropout(0.5), line(1.0)), planned(0.0), MANY, MANY)
    assert state.history[0].train_loss == pytest.approx(46.0)
    assert state.history[0].validation_loss == 0


def test_the_target_of_a_corrupted_row_is_the_clean_one() -> None:
    # All rows are seen as 0, so no weight can change and the loss stays the clean rows' square.
    model = line(0.7)
    plan = planned(0.1, epochs=2, corrupt=lambda clean, generator: torch.zeros_like(clean))
    state = fitted(model, plan, MANY, MANY)
    assert model.weight.item() == pytest.approx(0.7)
    assert [(e.train_loss, e.validation_loss) for e in state.history] == [pytest.approx((46.0, 46.0))] * 2


def test_the_noise_of_validation_is_the_same_each_epoch_and_that_of_training_is_not() -> None:
    def noisy(clean: Tensor, generator: Generator) -> Tensor:
        return clean + torch.randn(clean.shape, generator=generator)

    history = fitted(line(1.0), planned(0.0, epochs=3, corrupt=noisy), MANY, MANY).history
    assert len({epoch.validation_loss for epoch in history}) == 1
    assert len({epoch.train_loss for epoch in history}) == 3


def overshooting(done: float) -> float:
    """Three epochs of one step: to weight 0.8, far past 1, and nowhere."""
    return [0.16, 10.0, 0.0][round(done * 3)]


def test_the_model_ends_with_its_best_weights() -> None:
    model = line()
    state = fitted(model, planned(overshooting, epochs=3))
    assert model.weight.item() == pytest.approx(0.8)
    assert state.best_epoch == 1
    assert state.history[-1].validation_loss > state.history[0].validation_loss
    assert state.best_weights["weight"].item() == pytest.approx(0.8)


def test_it_stops_when_patience_is_out() -> None:
    state = fitted(line(), planned(0.0, epochs=50, patience=3))
    assert (len(state.history), state.best_epoch, state.stopped) == (4, 1, "patience")


def test_a_better_epoch_renews_patience() -> None:
    # Epoch 3 is the last that is better: 0.1 until then, 0 after it.
    state = fitted(line(), planned(lambda done: 0.1 if done < 0.05 else 0.0, epochs=50, patience=3))
    assert (len(state.history), state.best_epoch, state.stopped) == (6, 3, "patience")


def test_it_finishes_after_the_planned_epochs() -> None:
    state = fitted(line(), planned(0.01, epochs=4))
    assert ([epoch.number for epoch in state.history], state.stopped) == ([1, 2, 3, 4], "finished")


def test_the_outside_can_stop_it_after_an_epoch() -> None:
    seen: list[int] = []
    hooks = Hooks(on_epoch=lambda state: seen.append(len(state.history)), should_stop=lambda: len(seen) == 1)
    state = fitted(line(), planned(0.01, epochs=4), hooks=hooks)
    assert (seen, state.stopped) == ([1, 2], "interrupted")


def test_the_outside_hears_of_every_step_and_of_the_reason_to_stop() -> None:
    steps: list[int] = []
    reasons: list[str] = []
    hooks = Hooks(on_step=lambda: steps.append(1), on_epoch=lambda state: reasons.append(state.stopped))
    fitted(line(), planned(0.0, epochs=3, batch_size=4), MANY, hooks=hooks)
    assert len(steps) == 3 * 3
    assert reasons == ["", "", "finished"]


def test_the_rate_follows_the_schedule_step_by_step() -> None:
    # One row, a rate of 0.1 and then 0: the gradient at weight 0 is -2 and counts in the first half only.
    model = line()
    halves = planned(lambda done: 0.1 if done < 0.5 else 0.0, epochs=1, batch_size=1)
    fitted(model, halves, torch.ones(2, 1))
    assert model.weight.item() == pytest.approx(0.2)
    # Four steps in each of two epochs; an epoch's line says the rate of its last step.
    history = fitted(line(), planned(lambda done: 1e-3 * (1 - done), epochs=2, batch_size=3), MANY).history
    assert [epoch.learning_rate for epoch in history] == pytest.approx([1e-3 * 5 / 8, 1e-3 * 1 / 8])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    first, second, other = (
        fitted(nn.Sequential(nn.Dropout(0.3), line()), planned(1e-3, epochs=3, seed=s), MANY) for s in (seed, seed, 9)
    )
    losses: list[Callable[[State], list[float]]] = [
        lambda state: [epoch.train_loss for epoch in state.history],
        lambda state: [epoch.validation_loss for epoch in state.history],
    ]
    assert [read(first) for read in losses] == [read(second) for read in losses]
    assert losses[0](first) != losses[0](other)


@pytest.mark.parametrize(("rate", "epoch"), [(1e25, 1), (1e10, 2)])
def test_a_loss_that_leaves_the_numbers_ends_the_run_with_epoch_and_remedy(rate: float, epoch: int) -> None:
    with pytest.raises(TrainingError) as caught:
        fitted(line(), planned(rate, epochs=9))
    assert caught.value.field == f"loss in epoch {epoch}"
    assert caught.value.remedy == f"Lower it: --set optimizer.lr={rate / 10:.1g}"


def test_the_remedy_is_a_tenth_of_the_rate_at_the_start_however_far_it_has_fallen() -> None:
    rows = torch.tensor([[math.nan], [1.0]])
    with pytest.raises(TrainingError, match=r"optimizer\.lr=0\.02$"):
        fitted(line(), planned(lambda done: 0.2 if done == 0 else 1e-9, batch_size=1), rows)
