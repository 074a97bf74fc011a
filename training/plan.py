"""Inputs of the training loop besides the three pillars: the rows, the plan, and the hooks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from lookalike.training.artifact.known_range import Clipped
from lookalike.training.corruption import Corruption
from lookalike.training.history import State
from lookalike.training.schedules import Schedule

__all__ = ["Data", "FitPlan", "Hooks", "automatic_batch", "automatic_epochs"]


@dataclass(frozen=True)
class Data:
    """Preprocessed rows, (n, width) float32, and their targets; None: each row is its own target.

    The tensors are on the training device, or in host memory if they do not fit there. The first `numbers` columns are
    numbers (None: all are); the columns after them are slots of categories and indicators. `blurred` names the raw
    columns whose values differ by less than float32 resolves (training.tables.origin). `clipped` are the raw values
    outside the range that the encoder knows.
    """

    train: Tensor
    validation: Tensor
    train_targets: Tensor | None = None
    validation_targets: Tensor | None = None
    numbers: int | None = None
    blurred: tuple[str, ...] = ()
    clipped: Clipped = field(default_factory=Clipped)


@dataclass(frozen=True)
class FitPlan:
    """Settings of the loop besides the pillars."""

    epochs: int
    batch_size: int
    patience: int
    seed: int
    schedule: Schedule
    corrupt: Corruption | None = None
    clip: float = 0.0
    bf16: bool = False


@dataclass(frozen=True)
class Hooks:
    """Callbacks after each step and each epoch, and checks whether to stop and whether to save.

    Attributes:
        on_step: receives the number of steps that the epoch has done, and how many it has.
        should_save: asked after each step but an epoch's last; if true, `on_save` receives the state within the epoch.
    """

    on_step: Callable[[int, int], None] = lambda step, steps: None
    on_epoch: Callable[[State], None] = lambda state: None
    should_stop: Callable[[], bool] = lambda: False
    should_save: Callable[[], bool] = lambda: False
    on_save: Callable[[State], None] = lambda state: None


def automatic_epochs(steps: int, *, most: int = 15_000) -> int:
    """Epochs of `steps` steps each: about 3,000 steps, at least 30 epochs and at most 300; at most `most` steps."""
    return max(1, min(300, max(30, math.ceil(3_000 / steps)), math.ceil(most / steps)))


def automatic_batch(count: int) -> int:
    """Rows in a batch of `count` training rows: 256, or a twentieth of them if that is less, but at least 16."""
    return min(256, max(16, count // 20))
