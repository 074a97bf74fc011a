"""Warmup tames the first steps and decay the last ones; the functions are those of the training floor."""

import pytest

from lessons.schedules import SCHEDULES, cosine, one_cycle, step, warmed
from tests.lessons.conftest import Experiment
from training import schedules as ours
from training.config import OptimizerConfig

PLACES = [place / 97 for place in range(97)]


def test_warmup_tames_the_start(numbers: Experiment) -> None:
    told = numbers("schedules")
    assert told["highest training loss after the first step, constant"] > 2
    assert told["highest training loss after the first step, constant after warmup"] < 1


def test_warmup_and_decay_together_end_lowest(numbers: Experiment) -> None:
    error = {name: numbers("schedules")[f"test error after 10 epochs, {name}"] for name in SCHEDULES}
    both = ("step after warmup", "cosine after warmup", "one cycle")
    others = ("constant", "cosine", "constant after warmup")
    assert max(error[name] for name in both) < 0.97 * min(error[name] for name in others)
    assert error["cosine"] > 0.98 * error["constant"]


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (cosine, {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        (step, {0.0: 1.0, 0.49: 1.0, 0.5: 0.1, 0.75: 0.01}),
        (one_cycle, {0.0: 0.04, 0.3: 1.0, 0.65: 0.5, 1.0: 0.0}),
        (warmed(cosine), {0.0: 0.04, 0.05: 0.52, 0.1: 1.0, 0.55: 0.5}),
    ],
)
def test_values_worked_out_by_hand(schedule: ours.Schedule, values: dict[float, float]) -> None:
    assert {done: schedule(done) for done in values} == pytest.approx(values)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", ["cosine", "step", "one_cycle"])
def test_they_are_the_training_floors(kind: str) -> None:
    mine = {"cosine": cosine, "step": step, "one_cycle": one_cycle}[kind]
    config = OptimizerConfig(schedule=kind, warmup=0.1)  # type: ignore[arg-type]
    theirs = ours.build_schedule(config)
    assert [warmed(mine)(place) for place in PLACES] == pytest.approx([theirs(place, []) for place in PLACES])
