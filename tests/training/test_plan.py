import torch

from lookalike.training.history import State
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.schedules import SCHEDULES


def test_without_targets_rows_are_their_own() -> None:
    data = Data(torch.ones(2, 3), torch.ones(1, 3))
    assert (data.train_targets, data.validation_targets) == (None, None)


def test_a_plan_corrupts_clips_and_rounds_nothing_unless_it_is_told_to() -> None:
    plan = FitPlan(epochs=3, batch_size=2, patience=1, seed=0, schedule=SCHEDULES["constant"])
    assert (plan.corrupt, plan.clip, plan.bf16) == (None, 0.0, False)


def test_hooks_that_nobody_gave_say_nothing_and_stop_nothing() -> None:
    hooks = Hooks()
    hooks.on_step()
    hooks.on_epoch(State())
    assert hooks.should_stop() is False
