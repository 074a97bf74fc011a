"""What a run writes down about itself, epoch by epoch. The doctor judges from nothing else."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["Epoch", "State", "finite"]


@dataclass(frozen=True)
class Epoch:
    """One line of the history; losses are means over all values of all rows.

    Attributes:
        validation_loss: None where it is no number any more; train_loss likewise.
        vitals: what `training.doctor.watch` saw, as plain JSON.
    """

    number: int
    train_loss: float | None
    validation_loss: float | None
    learning_rate: float
    seconds: float
    vitals: dict[str, Any] = field(default_factory=dict)


@dataclass
class State:
    """Where a run stands: enough, with model and optimizer, to go on."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, "Tensor"] = field(default_factory=dict)
    stopped: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was known before the first step: see `training.doctor.facts`."""


def finite(value: float) -> float | None:
    """The value, or None where it is NaN or infinite, for which JSON has no word."""
    return value if math.isfinite(value) else None
