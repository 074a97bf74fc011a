"""What the gate says: each measure of the challenger beside the champion's and the baselines', and what decided.

It stands in a version's manifest and in a report as plain JSON; writer and reader stand here together.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from lookalike.training.errors import ArtifactError

__all__ = ["Comparison", "MeasureComparison", "Requirement", "Verdict", "read_verdict"]

Requirement = Literal["no worse", "better", "nothing"]
"""Of the challenger, beside another: the interval's low end is at least minus the margin, or above 0."""


@dataclass(frozen=True)
class Comparison:
    """The challenger beside one other, row by row.

    Attributes:
        against: "champion", "raw rows", "PCA-16" or "untrained".
        value: the other's mean.
        difference: the mean difference, positive where the challenger is better; `low` and `high`: its 95 % interval.
        margin: how much worse the challenger may be.
        passes: whether what is asked holds; True where nothing is asked.
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
    """One measure: the challenger's mean, and it beside each other."""

    name: str
    challenger: float
    compared: tuple[Comparison, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may take the champion's place.

    Attributes:
        decided_by: the measure that decided, and against whom; empty where nothing could be measured.
        reason: the same as a sentence.
        rows: how many held-out rows were asked.
    """

    passes: bool
    decided_by: str
    reason: str
    rows: int
    measures: tuple[MeasureComparison, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, which `read_verdict` reads."""
        told = dataclasses.asdict(self)
        told["measures"] = [{**one, "compared": list(one["compared"])} for one in told["measures"]]
        return told

    def lines(self) -> list[str]:
        """For people: the outcome, and a line for each comparison."""
        said = [f"{'promoted' if self.passes else 'kept'}: {self.reason}"]
        for measure in self.measures:
            said.append(f"{measure.name}: {measure.challenger:.4f}")
            said += [f"  {_line(one)}" for one in measure.compared]
        return said


def read_verdict(told: Any) -> Verdict:
    """What `Verdict.to_json` told.

    Raises:
        ArtifactError: it is nothing that it could have told.
    """
    try:
        measures = tuple(
            MeasureComparison(
                one["name"], float(one["challenger"]), tuple(Comparison(**each) for each in one["compared"])
            )
            for one in told["measures"]
        )
        return Verdict(**{**told, "measures": measures})
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError("gate", expected="a verdict of the gate", found=repr(error)) from error


def _line(one: Comparison) -> str:
    asked = {
        "nothing": "",
        "better": ", must be above 0",
        "no worse": f", must be at least {-one.margin:.4f}",
    }[one.asked]
    verdict = "" if one.asked == "nothing" else ": holds" if one.passes else ": DOES NOT HOLD"
    return (
        f"{one.against} {one.value:.4f}, difference {one.difference:+.4f} "
        f"(95 %: {one.low:+.4f} to {one.high:+.4f}){asked}{verdict}"
    )
