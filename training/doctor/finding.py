"""A finding: what was seen, why that happens, what to change, and how sure it is."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Observation", "Sure"]

Sure = Literal["certain", "likely", "possible"]


@dataclass(frozen=True)
class Observation:
    """What a rule saw, in numbers, and what it would change: in words, and as `section.key=value` lines."""

    evidence: str
    change: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One diagnosis.

    Attributes:
        cause: its name, one of `training.doctor.causes.CAUSES`.
        seen: the evidence, with its numbers.
        why: why that happens.
        change: what to do; where settings do it, as `--set` lines.
        sure: certain (it follows from what is there), likely (figures past a tested threshold) or possible.
        topic: the lesson that explains it: `lookalike explain TOPIC`.
        settings: the `section.key=value` lines of `change`; empty where it is the user's own code.
    """

    cause: str
    seen: str
    why: str
    change: str
    sure: Sure
    topic: str
    settings: tuple[str, ...] = ()
