"""Warmup limits the first steps, and decay the last steps."""

from collections.abc import Callable

import pytest

from lookalike.lessons.schedules import SCHEDULES, schedule
from tests.lessons.conftest import Experiment


def test_warmup_prevents_the_jump_at_the_start(numbers: Experiment) -> None:
    measured = numbers("schedules")
    assert measured["highest training loss after the first step, constant"] > 2
    assert measured["highest training loss after the first step, constant after warmup"] < 1


def test_warmup_with_decay_has_the_lowest_error(numbers: Experiment) -> None:
    error = {name: numbers("schedules")[f"test error after 10 epochs, {name}"] for name in SCHEDULES}
    both = ("step after warmup", "cosine after warmup", "one cycle")
    others = ("constant", "cosine", "constant after warmup")
    assert max(error[name] for name in both) < 0.97 * min(error[name] for name in others)
    assert error["cosine"] > 0.98 * error["constant"]


@pytest.mark.parametrize(
    ("rate_share", "values"),
    [
        (schedule("cosine"), {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        (schedule("step"), {0.0: 1.0, 0.49: 1.0, 0.5: 0.1, 0.75: 0.01}),
        (schedule("one_cycle"), {0.0: 0.04, 0.3: 1.0, 0.65: 0.5, 1.0: 0.0}),
        (schedule("cosine", 0.1), {0.0: 0.04, 0.05: 0.52, 0.1: 1.0, 0.55: 0.5}),
    ],
)
def test_values_as_worked_out_by_hand(rate_share: Callable[[float], float], values: dict[float, float]) -> None:
    assert {done: rate_share(done) for done in values} == pytest.approx(values)
