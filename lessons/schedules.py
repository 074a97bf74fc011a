"""Schedules: the same run with a rate that stays, falls, or first rises; what each leaves."""

import math
from collections.abc import Callable

from torch import nn

from lessons.picture import Curves, Panels, Series, by_epoch
from lessons.shown import Shown
from lessons.workbench import Digits, adam, autoencoder, batches, digits, error, isolated

__all__ = ["SCHEDULES", "cosine", "experiment", "one_cycle", "step", "warmed"]

PEAK, EPOCHS, BATCH, ROWS = 0.02, 10, 16, 800
Schedule = Callable[[float], float]
"""The share of the run that is done, 0 to 1 -> the share of the peak rate."""


def cosine(done: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * done))


def step(done: float) -> float:
    """1, then a tenth from half of the run, a hundredth from three quarters."""
    return float(0.1 ** sum(done >= drop for drop in (0.5, 0.75)))


def one_cycle(done: float) -> float:
    """Up from 1/25 within 30% of the run, then down to 0, each along half a cosine."""
    return 1 / 25 + 24 / 25 * cosine(1 - done / 0.3) if done < 0.3 else cosine((done - 0.3) / 0.7)


def warmed(after: Schedule, share: float = 0.1) -> Schedule:
    """Up from 1/25 in a straight line within `share` of the run, then `after` over the rest."""
    return lambda done: 1 / 25 + 24 / 25 * done / share if done < share else after((done - share) / (1 - share))


SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done: 1.0,
    "cosine": cosine,
    "constant after warmup": warmed(lambda done: 1.0),
    "step after warmup": warmed(step),
    "cosine after warmup": warmed(cosine),
    "one cycle": one_cycle,
}


def experiment(seed: int = 0) -> Shown:
    """One autoencoder, Adam with a rate a little too high for its first steps, under each schedule."""
    data = digits(seed, ROWS)
    runs = {name: _train(schedule, data, seed) for name, schedule in SCHEDULES.items()}
    numbers = {f"test error after {EPOCHS} epochs, {name}": errors[-1] for name, (errors, _) in runs.items()}
    for name in ("constant", "constant after warmup"):
        numbers[f"highest training loss after the first step, {name}"] = max(runs[name][1][1:])
    places = [place / 100 for place in range(100)]
    rates: dict[str, Series] = {
        name: (places, [PEAK * schedule(place) for place in places]) for name, schedule in SCHEDULES.items()
    }
    left = Curves("The learning rate", "share of the run that is done", "learning rate", rates)
    lines = by_epoch({name: errors for name, (errors, _) in runs.items()})
    right = Curves("What comes of it", "epoch", "test error", lines, log_y=True)
    return Shown(numbers, Panels("Large steps first, small steps last", [left, right]))


def _train(schedule: Schedule, data: Digits, seed: int) -> tuple[list[float], list[float]]:
    """The test error after each epoch, and the training loss of each step."""
    errors, losses = [], []
    with isolated(seed):
        model = autoencoder(8)
        optimizer = adam(model, PEAK)
        for epoch in range(EPOCHS):
            parts = list(batches(len(data.train), BATCH))
            for number, rows in enumerate(parts):
                optimizer.param_groups[0]["lr"] = PEAK * schedule((epoch + number / len(parts)) / EPOCHS)
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(data.train[rows]), data.train[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(loss.detach()))
            errors.append(error(model, data.test, data.test))
    return errors, losses
