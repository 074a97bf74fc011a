"""At which learning rate to train: a short run whose rate grows with every step tells.

L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.
"""

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim

from lookalike.training.errors import ConfigError, TrainingError
from lookalike.training.fit.loop import train_epoch
from lookalike.training.history import Epoch, State
from lookalike.training.models.losses import Loss
from lookalike.training.plan import Data, FitPlan
from lookalike.training.schedules import Schedule

__all__ = ["RateTest", "rate_test", "smooth", "suggest"]

DIVERGED = 4.0
"""Times the least loss so far."""
MEMORY = 0.8
"""What the running mean, which tells whether a loss diverged, keeps of itself in a step."""
WIDTH = 0.2
"""In decades of the rate: the standard deviation of the bell that losses are smoothed with."""
CLEAR = 6.0
"""Times the deviation of a smoothed loss: what the loss must fall by, for the test to say anything."""
FALLEN = 0.95
"""Of the way down to the least loss."""
CHANCE = 2.0
"""Deviations of a smoothed loss within which two of them are the same."""
MIN_STEPS = 40
FEWEST = 8
"""Losses; fewer are no curve."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RateTest:
    """What it tried and what it found.

    Attributes:
        rates: one a step, up to where the loss diverged.
        losses: the smoothed loss at each.
        suggested: the rate to train with.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float


def rate_test(
    model: nn.Module,
    loss: Loss,
    optimizer: optim.Optimizer,
    data: Data,
    *,
    plan: FitPlan,
    between: tuple[float, float] = (1e-7, 10.0),
    steps: int = 200,
) -> RateTest:
    """Train a copy for a moment, its rate growing by the same factor with every step, until the loss diverges.

    Model, optimizer and torch's random numbers are left as they were. The rate is that of the optimizer's first group;
    the others keep their ratio to it. The plan's batches, corruption, clipping, precision and seed are used.

    Args:
        between: the lowest and the highest rate.

    Raises:
        ConfigError: the rates do not rise from above 0, or there are fewer than 40 steps.
        TrainingError: there are no rows, the loss diverges within the first few, or it falls at none.
    """
    _check(between, steps, len(data.train))
    model, optimizer = copy.deepcopy((model, optimizer))  # together, so that the one moves the other's weights
    group, each = optimizer.param_groups[0], math.ceil(len(data.train) / plan.batch_size)
    epochs = math.ceil(steps / each)
    rising = _rising(between, group.get("initial_lr", group["lr"]), share=(steps - 1) / (epochs * each))
    plan = replace(plan, epochs=epochs, schedule=rising)
    record, state = _Record(group, steps), State()
    with torch.random.fork_rng(range(torch.cuda.device_count())), contextlib.suppress(_EnoughError):
        for number in range(1, epochs + 1):
            train_epoch(model, loss, optimizer, data, plan=plan, state=state, on_step=record)
            state.history.append(Epoch(number, None, None, group["lr"], 0.0))
    if len(record.losses) < FEWEST:
        raise TrainingError(
            "loss",
            expected=f"numbers at the lowest rates, from {between[0]:g} on",
            found=f"an end after {len(record.losses)} steps: NaN, infinity or a leap",
            remedy="Begin at a lower rate; where that does not help, scale the rows.",
        )
    losses = np.array(record.losses)
    return RateTest(tuple(record.rates), tuple(smooth(record.rates, losses)), suggest(record.rates, losses))


def smooth(rates: Sequence[float], losses: Floats) -> list[float]:
    """(n,) losses at n >= 2 rates that grow by the same factor -> n means under a bell of 0.2 decades around each."""
    bell = _bell(rates)
    middle = slice(len(bell) // 2, len(bell) // 2 + len(losses))
    weights = np.convolve(np.ones(len(losses)), bell)[middle]  # less at the ends, where a part of the bell is missing
    means: list[float] = (np.convolve(losses, bell)[middle] / weights).tolist()
    return means


def suggest(rates: Sequence[float], losses: Floats) -> float:
    """The rate to train with: the lowest at which the smoothed loss has done 95 % of its fall.

    A higher one brings next to nothing, and lies nearer to where the loss diverges. Where losses are so noisy that
    chance does more than the last 5 %, two deviations of a smoothed loss count instead, as in the one-standard-error
    rule of L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.

    Args:
        rates: n >= 2, each greater than the one before by the same factor.
        losses: (n,) the loss of the step at each, to where it diverged.

    Raises:
        TrainingError: the loss falls by no more than chance lets it.
    """
    smoothed, bell = np.array(smooth(rates, losses)), _bell(rates)
    noise = np.median(np.abs(losses - smoothed)) / 0.6745 * np.linalg.norm(bell) / bell.sum()  # a mean's deviation
    count = max(1, len(smoothed) - len(bell) // 4)  # where a good part of the bell is missing, chance does more
    whole = smoothed[:count]
    first, least, best = whole[0], whole.min(), int(whole.argmin())
    if first - least <= CLEAR * noise:
        raise TrainingError(
            "loss",
            expected="a rate at which it falls",
            found=f"{first:.3g} at {rates[0]:g}, and at best {least:.3g} at {rates[best]:.2g}",
            remedy="Try more steps; or look for the cause with `lookalike doctor`.",
        )
    enough = least + max((1 - FALLEN) * (first - least), CHANCE * noise)
    return float(rates[int(np.argmax(whole <= enough))])


def _bell(rates: Sequence[float]) -> Floats:
    reach = WIDTH / math.log10(rates[1] / rates[0])  # in steps
    places = np.arange(-math.ceil(3 * reach), math.ceil(3 * reach) + 1)
    bell: Floats = np.exp(-0.5 * (places / reach) ** 2)
    return bell


class _EnoughError(Exception):
    """Ends a pass over the rows; no more is meant."""


class _Record:
    """Hears the loss of each step, and ends the test after `steps` of them, or where it diverges."""

    def __init__(self, group: dict[str, float], steps: int) -> None:
        self.group, self.steps = group, steps
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.mean, self.least = 0.0, math.inf

    def __call__(self, value: Tensor) -> None:
        loss = value.detach().item()
        if not math.isfinite(loss):
            raise _EnoughError
        self.mean = MEMORY * self.mean + (1 - MEMORY) * loss
        running = self.mean / (1 - MEMORY ** (len(self.losses) + 1))
        self.least = min(self.least, running)
        self.rates.append(self.group["lr"])
        self.losses.append(min(loss, DIVERGED * self.least))  # one leap shall not outweigh all others
        if running > DIVERGED * self.least or len(self.losses) == self.steps:
            raise _EnoughError


def _rising(between: tuple[float, float], base: float, share: float) -> Schedule:
    """From the lowest rate to the highest after a share of the run; a factor on the rate `base`."""
    lowest, highest = between
    return lambda done, losses: lowest / base * (highest / lowest) ** (done / share)


def _check(between: tuple[float, float], steps: int, rows: int) -> None:
    lowest, highest = between
    if not 0 < lowest < highest < math.inf:
        raise ConfigError(
            "rates", expected="the lowest above 0, the highest above it", found=f"{lowest:g}, {highest:g}"
        )
    if steps < MIN_STEPS:
        raise ConfigError("steps", expected=f"at least {MIN_STEPS}", found=str(steps))
    if not rows:
        raise TrainingError("rows", expected="some to train on", found="none")
