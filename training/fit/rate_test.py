"""Find the learning rate: a short run whose rate grows with every step.

L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.
"""

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn, optim

from lookalike.training.array_types import Doubles
from lookalike.training.errors import ConfigError, TrainingError
from lookalike.training.fit.epoch_batches import EpochBatches
from lookalike.training.fit.loop import train_epoch
from lookalike.training.history import Epoch, State
from lookalike.training.models.losses import Loss
from lookalike.training.plan import Data, FitPlan
from lookalike.training.schedules import Schedule

__all__ = ["RateTest", "rate_test", "smooth", "suggest"]

DIVERGED = 4.0
"""A loss above this many times the lowest loss so far has diverged."""
MEMORY = 0.8
"""Decay factor of the running mean that detects a diverged loss."""
WIDTH = 0.2
"""Standard deviation, in decades of the rate, of the Gaussian kernel that smooths the losses."""
CLEAR = 6.0
"""The loss must fall by this many standard deviations of a smoothed loss; else the test finds nothing."""
FALLEN = 0.95
"""The suggested rate reaches this share of the fall to the lowest loss."""
CHANCE = 2.0
"""Two smoothed losses within this many standard deviations count as equal."""
MIN_STEPS = 40
FEWEST = 8
"""The fewest losses that make a curve."""


@dataclass(frozen=True)
class RateTest:
    """The result of a learning rate test.

    Attributes:
        rates: one per step, until the loss diverged.
        losses: the smoothed loss at each rate.
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
    """Train a copy briefly, multiplying the rate by the same factor at every step, until the loss diverges.

    The model, the optimizer and torch's random state stay unchanged. The rate is that of the optimizer's first group;
    the other groups keep their ratio to it. Uses the plan's batches, corruption, clipping, precision and seed.

    Raises:
        ConfigError: the rates (`between`) do not rise from above 0, or there are fewer than 40 steps.
        TrainingError: there are no rows, the loss diverges within the first few steps, or it falls at no rate.
    """
    _check(between, steps, len(data.train))
    model, optimizer = copy.deepcopy((model, optimizer))  # together: the copied optimizer must update the copied model
    group, epoch_steps = optimizer.param_groups[0], math.ceil(len(data.train) / plan.batch_size)
    epochs = math.ceil(steps / epoch_steps)
    rising = _rising(between, group.get("initial_lr", group["lr"]), share=(steps - 1) / (epochs * epoch_steps))
    plan = replace(plan, epochs=epochs, schedule=rising)
    record, state = _Record(group, steps), State()
    with torch.random.fork_rng(range(torch.cuda.device_count())), contextlib.suppress(_EnoughError):
        for number in range(1, epochs + 1):
            epoch = EpochBatches(data, plan, state, next(model.parameters()).device)
            train_epoch(model, loss, optimizer, data, plan=plan, epoch=epoch, on_step=record)
            state.history.append(Epoch(number, None, None, group["lr"], 0.0))
    if len(record.losses) < FEWEST:
        expected = f"finite values at the lowest rates, from {between[0]:g} on"
        found = f"NaN, infinity or a jump after {len(record.losses)} steps"
        remedy = "Begin at a lower rate; if that does not help, scale the rows."
        raise TrainingError("loss", expected=expected, found=found, remedy=remedy)
    losses = np.array(record.losses)
    return RateTest(tuple(record.rates), tuple(smooth(record.rates, losses)), suggest(record.rates, losses))


def smooth(rates: Sequence[float], losses: Doubles) -> list[float]:
    """(n,) losses at n >= 2 rates that grow by a constant factor -> n means, weighted by a Gaussian of 0.2 decades."""
    bell = _bell(rates)
    middle = slice(len(bell) // 2, len(bell) // 2 + len(losses))
    weights = np.convolve(np.ones(len(losses)), bell)[middle]  # less at the ends: a part of the kernel is outside
    means: list[float] = (np.convolve(losses, bell)[middle] / weights).tolist()
    return means


def suggest(rates: Sequence[float], losses: Doubles) -> float:
    """Return the rate to train with: the lowest at which the smoothed loss has done 95 % of its fall.

    A higher rate gains almost nothing and is closer to divergence. If the noise is larger than the last 5 % of the
    fall, two standard deviations of a smoothed loss replace the 5 %, as in the one-standard-error rule of
    L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.

    Raises TrainingError if the loss falls by no more than noise explains.

    Args:
        rates: n >= 2, each greater than the previous rate by the same factor.
        losses: (n,) the loss of the step at each rate, until it diverged.
    """
    smoothed, bell = np.array(smooth(rates, losses)), _bell(rates)
    noise = np.median(np.abs(losses - smoothed)) / 0.6745 * np.linalg.norm(bell) / bell.sum()  # of a smoothed loss
    count = max(1, len(smoothed) - len(bell) // 4)  # the last losses are noisier: a part of the kernel is outside
    whole = smoothed[:count]
    first, least, best = whole[0], whole.min(), int(whole.argmin())
    if first - least <= CLEAR * noise:
        found = f"{first:.3g} at {rates[0]:g}, and at best {least:.3g} at {rates[best]:.2g}"
        remedy = "Try more steps, or look for the cause with `lookalike doctor`."
        raise TrainingError("loss", expected="a rate at which the loss falls", found=found, remedy=remedy)
    enough = least + max((1 - FALLEN) * (first - least), CHANCE * noise)
    return float(rates[int(np.argmax(whole <= enough))])


def _bell(rates: Sequence[float]) -> Doubles:
    reach = WIDTH / math.log10(rates[1] / rates[0])  # in steps
    places = np.arange(-math.ceil(3 * reach), math.ceil(3 * reach) + 1)
    bell: Doubles = np.exp(-0.5 * (places / reach) ** 2)
    return bell


class _EnoughError(Exception):
    """Ends a pass over the rows; signals no failure."""


class _Record:
    """Records the loss of each step, and ends the test after `steps` steps or when the loss diverges."""

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
        self.losses.append(min(loss, DIVERGED * self.least))  # one jump must not outweigh all other losses
        if running > DIVERGED * self.least or len(self.losses) == self.steps:
            raise _EnoughError


def _rising(between: tuple[float, float], base: float, share: float) -> Schedule:
    """Return a schedule from the lowest rate to the highest, reached after `share` of the run; factors of `base`."""
    lowest, highest = between
    return lambda done, losses: lowest / base * (highest / lowest) ** (done / share)


def _check(between: tuple[float, float], steps: int, rows: int) -> None:
    lowest, highest = between
    if not 0 < lowest < highest < math.inf:
        expected = "a lowest rate above 0 and a greater, finite highest"
        raise ConfigError("rates", expected=expected, found=f"{lowest:g}, {highest:g}")
    if steps < MIN_STEPS:
        raise ConfigError("steps", expected=f"at least {MIN_STEPS}", found=str(steps))
    if not rows:
        raise TrainingError("rows", expected="at least one training row", found="0 rows")
