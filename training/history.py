"""The record of a run, epoch by epoch: the only input of the doctor."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["Epoch", "State", "WithinEpoch", "finite"]


@dataclass(frozen=True)
class Epoch:
    """One entry of the history; losses are means over all values of all rows.

    Attributes:
        validation_loss: None if it is NaN or infinite; train_loss likewise.
        vitals: the measurements of `training.doctor.watch`, as plain JSON.
    """

    number: int
    train_loss: float | None
    validation_loss: float | None
    learning_rate: float
    seconds: float
    vitals: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WithinEpoch:
    """The progress of an epoch that has not ended.

    Attributes:
        step: the steps that are done.
        seconds: how long they took.
        counts: numbers that the epoch has counted so far.
        tensors: the random generators' states, and what the epoch has observed so far.
    """

    step: int
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, "Tensor"] = field(default_factory=dict)


@dataclass
class State:
    """The progress of a run: with the model and the optimizer, enough to resume it."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, "Tensor"] = field(default_factory=dict)
    stopped: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts known before the first step: see `training.doctor.facts`."""
    within: WithinEpoch | None = None
    """The epoch after `history`, if it has begun."""


def finite(value: float) -> float | None:
    """Return the value, or None if it is NaN or infinite, which JSON cannot express."""
    return value if math.isfinite(value) else None
