"""The verdict of the gate: each measure of the challenger beside the champion's and the baselines', and the decision.

A version's manifest and a report contain it as plain JSON.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Comparison", "MeasureComparison", "Requirement", "Verdict"]

Requirement = Literal["no worse", "better", "nothing"]
"""The low end of the interval must be at least minus the margin ("no worse"), or above 0 ("better")."""


@dataclass(frozen=True)
class Comparison:
    """The challenger compared with the champion or a baseline, row by row.

    Attributes:
        against: "champion", "raw rows", "PCA-16" or "untrained".
        value: the mean of the champion or the baseline.
        difference: the mean difference, positive if the challenger is better; `low` and `high`: its 95 % interval.
        margin: how much worse the challenger may be.
        passes: whether the requirement `asked` holds; True if nothing is required.
    """

    against: str
    value: float
    difference: float
    low: float
    high: float
    asked: Requirement
    margin: float
    passes: bool


@dataclass(frozen=True)
class MeasureComparison:
    """One measure: the challenger's mean, and its comparisons."""

    name: str
    challenger: float
    compared: tuple[Comparison, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may replace the champion.

    Attributes:
        decided_by: the measure that decided, and against whom; empty if nothing could be measured.
        reason: the same as a sentence.
        rows: the number of held-out rows.
    """

    passes: bool
    decided_by: str
    reason: str
    rows: int
    measures: tuple[MeasureComparison, ...] = ()

    def lines(self) -> list[str]:
        """Return the verdict as text: the outcome, and a line for each comparison."""
        lines = [f"{'promoted' if self.passes else 'kept'}: {self.reason}"]
        for measure in self.measures:
            lines.append(f"{measure.name}: {measure.challenger:.4f}")
            lines += [f"  {_line(comparison)}" for comparison in measure.compared]
        return lines


def _line(one: Comparison) -> str:
    line = f"{one.against} {one.value:.4f}, difference {one.difference:+.4f} (95 %: {one.low:+.4f} to {one.high:+.4f})"
    if one.asked == "nothing":
        return line
    required = "above 0" if one.asked == "better" else f"at least {-one.margin:.4f}"
    return f"{line}, must be {required}: {'holds' if one.passes else 'DOES NOT HOLD'}"
