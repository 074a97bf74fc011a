"""What the loop is given beside the three pillars: the rows, the plan, and the hooks."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from lookalike.training.artifact.known_range import Clipped
from lookalike.training.corruption import Corruption
from lookalike.training.history import State
from lookalike.training.schedules import Schedule

__all__ = ["Data", "FitPlan", "Hooks", "automatic_batch"]


@dataclass(frozen=True)
class Data:
    """Preprocessed rows, (n, width) float32, and what they should become; without targets, themselves.

    They lie on the device that trains, or, where they do not fit there, in memory. The first `numbers` columns
    are numbers, by default all of them; those after are slots of categories and indicators. `blurred` names the raw
    columns in which float32 does not hold what tells values apart (training.tables.origin). `clipped` are the raw
    values that are outside the range that the encoder knows.
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
    """What the loop needs to know beside the pillars."""

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
    """What the outside may see and say."""

    on_step: Callable[[], None] = lambda: None
    on_epoch: Callable[[State], None] = lambda state: None
    should_stop: Callable[[], bool] = lambda: False


def automatic_batch(count: int) -> int:
    """Rows in a batch, of `count` to train on: 256, or a twentieth where they are few, at least 16."""
    return min(256, max(16, count // 20))
