"""A run as the rules see it: facts and history, with losses as shares of what a constant answer costs."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lookalike.training.history import Epoch, State

__all__ = ["Case"]

HOPELESS_LOSS, HOPELESS_EPOCHS = 100.0, 3


@dataclass(frozen=True)
class Case:
    """One run. A loss of 1 is as good as no learning at all."""

    facts: dict[str, Any]
    history: tuple[Epoch, ...] = ()
    stopped: str = ""

    @staticmethod
    def of(state: State) -> "Case":
        """A run as it stands."""
        return Case(state.facts, tuple(state.history), state.stopped)

    @cached_property
    def train(self) -> list[float]:
        """The training losses, relative; infinite where they left the numbers."""
        return [self.relative(epoch.train_loss, "train_") for epoch in self.history]

    @cached_property
    def validation(self) -> list[float]:
        """The validation losses, likewise."""
        return [self.relative(epoch.validation_loss) for epoch in self.history]

    @property
    def best(self) -> float:
        """The least validation loss, relative."""
        return min(self.validation, default=math.inf)

    @property
    def first(self) -> dict[str, Any]:
        """The vital signs of the first epoch."""
        return self.history[0].vitals if self.history else {}

    @property
    def last(self) -> dict[str, Any]:
        """The vital signs of the last epoch that has finite losses; of the first where none has."""
        whole = [epoch for epoch in self.history if epoch.train_loss is not None]
        return whole[-1].vitals if whole else self.first

    @property
    def left_the_numbers(self) -> bool:
        """Whether any loss was NaN or infinite."""
        return any(epoch.train_loss is None or epoch.validation_loss is None for epoch in self.history)

    @property
    def hopeless(self) -> bool:
        """The loss left the numbers, or was a hundred times a constant's for three epochs and did not halve."""
        recent = self.train[-HOPELESS_EPOCHS:]
        lost = len(recent) == HOPELESS_EPOCHS and min(recent) > HOPELESS_LOSS and recent[-1] > recent[0] / 2
        return self.left_the_numbers or lost

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return sum(epoch.vitals.get("steps", 0) for epoch in self.history)

    @property
    def largest_update(self) -> float:
        """The longest step of a weight matrix over its own length; the median of the first epoch, the worst layer."""
        return _most(self.first.get("update"))

    @property
    def dead_hidden(self) -> float:
        """The share of units without a gradient in the worst layer of the last epoch, but for the narrowest layer."""
        return self._dead(self.last)

    @property
    def dead_at_first(self) -> float:
        """The same of the first epoch."""
        return self._dead(self.first)

    def _dead(self, vitals: dict[str, Any]) -> float:
        widths, dead = self.facts.get("widths", []), vitals.get("dead", [])
        hidden = [share for width, share in zip(widths, dead, strict=False) if width != min(widths)]
        return _most(hidden or dead)

    @property
    def pace(self) -> list[float]:
        """The training loss within epochs, relative: ten means an epoch, in order."""
        return [self.relative(loss, "train_") for epoch in self.history for loss in epoch.vitals.get("losses", [])]

    def pace_at(self, share: float) -> float:
        """The mean of a tenth of the pace, from `share` of the run on."""
        pace = self.pace
        first = min(int(share * len(pace)), max(0, len(pace) - 1))
        part = pace[first : first + max(1, len(pace) // 10)]
        return sum(part) / len(part) if part else math.inf

    def relative(self, loss: float | None, part: str = "") -> float:
        """A loss on the way from the perfect answer's, 0, to the best constant's, 1; infinite where it is no number.

        `part`: "train_" for a loss on training rows, whose perfect and constant answers cost something else.
        """
        if loss is None:
            return math.inf
        costs = (self.facts.get(part + name, self.facts.get(name)) for name in ("perfect_loss", "trivial_loss"))
        perfect, trivial = (cost or 0.0 for cost in costs)
        if trivial <= perfect:
            return math.inf if loss > perfect else 0.0
        return max(0.0, (loss - perfect) / (trivial - perfect))


def _most(values: list[float | None] | None) -> float:
    return max((math.inf if value is None else value for value in values or []), default=0.0)
