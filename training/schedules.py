"""Learning rate schedules. All are pure functions: there is no state to save or to resume."""

import math
from collections.abc import Callable, Sequence

from lookalike.training.config import OptimizerConfig

__all__ = ["SCHEDULES", "Schedule", "build_schedule"]

Schedule = Callable[[float, Sequence[float]], float]
"""(share of the run that is done, validation losses so far) -> factor on each parameter group's learning rate."""

DROPS = (0.5, 0.75)
PEAK_AT = 0.3
START = 1 / 25
PLATEAU_EPOCHS = 5


def constant(done: float, losses: Sequence[float]) -> float:
    """Always 1."""
    return 1.0


def step(done: float, losses: Sequence[float]) -> float:
    """0.1 from half of the run on, 0.01 from three quarters on: He et al., "Deep Residual Learning", 2016."""
    return float(0.1 ** sum(done >= drop for drop in DROPS))


def cosine(done: float, losses: Sequence[float]) -> float:
    """From 1 to 0 along half a cosine: Loshchilov and Hutter, "SGDR", ICLR 2017."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def one_cycle(done: float, losses: Sequence[float]) -> float:
    """Up from 1/25 until 30 % of the run, then down to 0: Smith and Topin, "Super-Convergence", 2018."""
    if done < PEAK_AT:
        return START + (1 - START) * cosine(1 - done / PEAK_AT, losses)
    return cosine((done - PEAK_AT) / (1 - PEAK_AT), losses)


def plateau(done: float, losses: Sequence[float]) -> float:
    """Half as much each time that five epochs in a row have not improved the validation loss."""
    factor, best, waited = 1.0, math.inf, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == PLATEAU_EPOCHS:
            factor, waited = factor / 2, 0
    return factor


SCHEDULES: dict[str, Schedule] = {kind.__name__: kind for kind in (constant, step, cosine, one_cycle, plateau)}


def build_schedule(config: OptimizerConfig) -> Schedule:
    """Return the configured schedule, after a linear rise from 1/25 over the first share `config.warmup` of the run."""
    schedule, warmup = SCHEDULES[config.schedule], config.warmup
    if not warmup:
        return schedule

    def warmed(done: float, losses: Sequence[float]) -> float:
        if done < warmup:
            return START + (1 - START) * done / warmup
        return schedule((done - warmup) / (1 - warmup), losses)

    return warmed
