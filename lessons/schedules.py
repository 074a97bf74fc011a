"""Schedules: the same run with a learning rate that is constant, falls, or first rises."""

from collections.abc import Callable
from typing import Literal

from torch import nn

from lookalike.lessons.picture import Curves, Panels, Series, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, adam, autoencoder, batches, digits, error, isolated
from lookalike.training.config import OptimizerConfig
from lookalike.training.schedules import build_schedule

__all__ = ["SCHEDULES", "experiment", "schedule"]

PEAK, EPOCHS, BATCH, ROWS = 0.02, 10, 16, 800
Schedule = Callable[[float], float]
"""(share of the run that is done, 0 to 1) -> share of the peak rate."""
ScheduleKind = Literal["constant", "step", "cosine", "one_cycle"]


def schedule(kind: ScheduleKind, warmup: float = 0.0) -> Schedule:
    """A schedule of `training.schedules`, after a linear rise over the first share `warmup` of the run."""
    built = build_schedule(OptimizerConfig(schedule=kind, warmup=warmup))
    return lambda done: built(done, ())


SCHEDULES: dict[str, Schedule] = {
    "constant": schedule("constant"),
    "cosine": schedule("cosine"),
    "constant after warmup": schedule("constant", 0.1),
    "step after warmup": schedule("step", 0.1),
    "cosine after warmup": schedule("cosine", 0.1),
    "one cycle": schedule("one_cycle"),
}


def experiment(seed: int = 0) -> Shown:
    """Train an autoencoder with each schedule, by Adam with a rate slightly too high for the first steps."""
    data = digits(seed, ROWS)
    runs = {name: _train(rate_share, data, seed) for name, rate_share in SCHEDULES.items()}
    numbers = {f"test error after {EPOCHS} epochs, {name}": errors[-1] for name, (errors, _) in runs.items()}
    for name in ("constant", "constant after warmup"):
        numbers[f"highest training loss after the first step, {name}"] = max(runs[name][1][1:])
    places = [place / 100 for place in range(100)]
    rates: dict[str, Series] = {
        name: (places, [PEAK * rate_share(place) for place in places]) for name, rate_share in SCHEDULES.items()
    }
    left = Curves("The learning rate", "share of the run that is done", "learning rate", rates)
    lines = by_epoch({name: errors for name, (errors, _) in runs.items()})
    right = Curves("The result", "epoch", "test error", lines, log_y=True)
    return Shown(numbers, Panels("Large steps first, small steps last", [left, right]))


def _train(rate_share: Schedule, data: Digits, seed: int) -> tuple[list[float], list[float]]:
    """The test error after each epoch, and the training loss of each step."""
    errors, losses = [], []
    with isolated(seed):
        model = autoencoder(8)
        optimizer = adam(model, PEAK)
        for epoch in range(EPOCHS):
            parts = list(batches(len(data.train), BATCH))
            for number, rows in enumerate(parts):
                optimizer.param_groups[0]["lr"] = PEAK * rate_share((epoch + number / len(parts)) / EPOCHS)
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(data.train[rows]), data.train[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
            errors.append(error(model, data.test, data.test))
    return errors, losses
