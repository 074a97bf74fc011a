"""A run as the rules see it: facts and history, with losses relative to the loss of a constant answer."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lookalike.training.history import Epoch, State

__all__ = ["Case"]

HOPELESS_LOSS, HOPELESS_EPOCHS = 100.0, 3


@dataclass(frozen=True)
class Case:
    """One run. A relative loss of 1 means that nothing was learned."""

    facts: dict[str, Any]
    history: tuple[Epoch, ...] = ()
    stopped: str = ""

    @staticmethod
    def of(state: State) -> "Case":
        """Return the case of a run in its current state."""
        return Case(state.facts, tuple(state.history), state.stopped)

    @cached_property
    def train(self) -> list[float]:
        """The relative training losses; infinity for a NaN or infinite loss."""
        return [self.relative(epoch.train_loss, "train_") for epoch in self.history]

    @cached_property
    def validation(self) -> list[float]:
        """The relative validation losses; infinity for a NaN or infinite loss."""
        return [self.relative(epoch.validation_loss) for epoch in self.history]

    @property
    def best(self) -> float:
        """The lowest relative validation loss."""
        return min(self.validation, default=math.inf)

    @property
    def first(self) -> dict[str, Any]:
        """The vital signs of the first epoch."""
        return self.history[0].vitals if self.history else {}

    @property
    def last(self) -> dict[str, Any]:
        """The vital signs of the last epoch with a finite training loss; of the first epoch if there is none."""
        finite = [epoch for epoch in self.history if epoch.train_loss is not None]
        return finite[-1].vitals if finite else self.first

    @property
    def has_nonfinite_loss(self) -> bool:
        """Whether any loss was NaN or infinite."""
        return any(epoch.train_loss is None or epoch.validation_loss is None for epoch in self.history)

    @property
    def hopeless(self) -> bool:
        """Whether a loss is not finite, or stayed above `HOPELESS_LOSS` for `HOPELESS_EPOCHS` without halving."""
        recent = self.train[-HOPELESS_EPOCHS:]
        stuck = len(recent) == HOPELESS_EPOCHS and min(recent) > HOPELESS_LOSS and recent[-1] > recent[0] / 2
        return self.has_nonfinite_loss or stuck

    @property
    def steps(self) -> int:
        """The number of steps in all epochs."""
        return sum(epoch.vitals.get("steps", 0) for epoch in self.history)

    @property
    def largest_update(self) -> float:
        """The length of a step relative to the weight matrix: the first epoch's median, of the worst layer."""
        return _largest(self.first.get("update"))

    @property
    def dead_hidden(self) -> float:
        """The share of units without a gradient in the last epoch, of the worst layer except the narrowest one."""
        return self._dead(self.last)

    @property
    def dead_at_first(self) -> float:
        """Like `dead_hidden`, of the first epoch."""
        return self._dead(self.first)

    def _dead(self, vitals: dict[str, Any]) -> float:
        widths, dead = self.facts.get("widths", []), vitals.get("dead", [])
        hidden = [share for width, share in zip(widths, dead, strict=False) if width != min(widths)]
        return _largest(hidden or dead)

    @property
    def curve(self) -> list[float]:
        """The relative training loss over the run: ten means per epoch, in order."""
        return [self.relative(loss, "train_") for epoch in self.history for loss in epoch.vitals.get("losses", [])]

    def curve_at(self, share: float) -> float:
        """Return the mean of a tenth of the curve, beginning after `share` of the run."""
        curve = self.curve
        first = min(int(share * len(curve)), max(0, len(curve) - 1))
        part = curve[first : first + max(1, len(curve) // 10)]
        return sum(part) / len(part) if part else math.inf

    def relative(self, loss: float | None, part: str = "") -> float:
        """Return a loss scaled so that a perfect answer has 0 and the best constant answer 1; infinity for None.

        `part`: "train_" for a loss on training rows, for which perfect and constant answers have other losses.
        """
        if loss is None:
            return math.inf
        bounds = (self.facts.get(part + name, self.facts.get(name)) for name in ("perfect_loss", "trivial_loss"))
        perfect, trivial = (bound or 0.0 for bound in bounds)
        if trivial <= perfect:
            return math.inf if loss > perfect else 0.0
        return max(0.0, (loss - perfect) / (trivial - perfect))


def _largest(values: list[float | None] | None) -> float:
    return max((math.inf if value is None else value for value in values or []), default=0.0)
