"""A finding: the evidence, the reason, the change, and how certain the finding is."""

from dataclasses import dataclass
from typing import Literal

from lookalike.training.errors import TrainingError

__all__ = ["Finding", "Observation", "Sure", "advise"]

Sure = Literal["certain", "likely", "possible"]


@dataclass(frozen=True)
class Observation:
    """The evidence that a rule found, in numbers, and the change: in words, and as `section.key=value` lines.

    `sure`: how certain this observation is; None: as its cause says.
    """

    evidence: str
    change: str
    settings: tuple[str, ...] = ()
    sure: Sure | None = None


def advise(evidence: str, *settings: str) -> Observation:
    """Return an observation whose change is to set these `section.key=value` lines."""
    return Observation(evidence, " ".join(f"--set {line}" for line in settings), settings)


@dataclass(frozen=True)
class Finding:
    """One diagnosis.

    Attributes:
        cause: the name of one of `training.doctor.causes.CAUSES`.
        seen: the evidence, with numbers.
        why: why this happens.
        change: what to do; as `--set` lines if settings can do it.
        sure: certain (follows from the facts), likely (figures past a tested threshold) or possible.
        topic: the lesson that explains the cause: `lookalike explain TOPIC`.
        settings: the `section.key=value` lines of `change`; empty if the user's code must change.
    """

    cause: str
    seen: str
    why: str
    change: str
    sure: Sure
    topic: str
    settings: tuple[str, ...] = ()

    def error(self, expected: str) -> TrainingError:
        """Return the error of a run that this cause ends."""
        return TrainingError(self.cause, expected=expected, found=self.seen, remedy=f"{self.why} {self.change}")
