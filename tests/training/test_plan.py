import pytest
import torch

from lookalike.training.history import State
from lookalike.training.plan import Data, FitPlan, Hooks, automatic_epochs
from lookalike.training.schedules import SCHEDULES


def test_targets_are_optional() -> None:
    data = Data(torch.ones(2, 3), torch.ones(1, 3))
    assert (data.train_targets, data.validation_targets) == (None, None)


def test_by_default_a_plan_does_not_corrupt_clip_or_round() -> None:
    plan = FitPlan(epochs=3, batch_size=2, patience=1, seed=0, schedule=SCHEDULES["constant"])
    assert (plan.corrupt, plan.clip, plan.bf16) == (None, 0.0, False)


def test_default_hooks_do_nothing_and_do_not_stop() -> None:
    hooks = Hooks()
    hooks.on_step(1, 2)
    hooks.on_save(State())
    assert not hooks.should_save()
    hooks.on_epoch(State())
    assert hooks.should_stop() is False


@pytest.mark.parametrize(
    ("steps", "epochs"),
    [(1, 300), (10, 300), (20, 150), (211, 30), (500, 30), (1_000, 15), (1_296, 12), (20_000, 1), (10**9, 1)],
)
def test_automatic_epochs_make_neither_few_steps_nor_too_many(steps: int, epochs: int) -> None:
    assert automatic_epochs(steps) == epochs
