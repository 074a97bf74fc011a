"""What is asked of an index, what a trial of one gave, and which trial to take."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lookalike.index.errors import TargetError
from lookalike.training.errors import ConfigError

__all__ = ["Target", "TuningTrial", "fastest", "in_speed", "least_effort", "meets", "read_bytes", "unmet", "with_front"]

LEAST_RECALL = 0.001
AS_FAST = 1.1
"""Up to this many times as slow is as fast: timings are no more certain."""


@dataclass(frozen=True)
class Target:
    """What is asked for.

    Attributes:
        recall: of the 10 nearest; the lower end of the 95 % interval must reach it.
        memory: bytes of the index, vectors, graph and ids together; None for as many as it takes.
        latency_us: a single query, one thread, in microseconds; None for as few as there can be.
        key: FAISS's description of the index to take, where the kind is not to be chosen.
    """

    recall: float = 0.95
    memory: int | None = None
    latency_us: float | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where a part of it is out of bounds."""
        if self.key == "":
            raise ConfigError("target.key", expected="FAISS's description of an index", found="nothing")
        for name, most in {"recall": 1, "memory": 1 << 62, "latency_us": 1e12}.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise ConfigError(f"target.{name}", expected=f"more than 0, at most {most:g}", found=f"{value:g}")


@dataclass(frozen=True)
class TuningTrial:
    """One index, searched one way; times are of one thread.

    Attributes:
        front: no other trial over as many items has as much recall in as little time and as few bytes.
    """

    key: str
    search: str
    recall: float
    low: float
    high: float
    latency_us: float
    batch_us: float
    bytes: int
    items: int
    front: bool = False


def read_bytes(text: str) -> int:
    """How many bytes "64MB" is: a number with B, KB, MB or GB (powers of 1,000), or KiB, MiB or GiB (of 1,024).

    Raises:
        ConfigError: it is no number of bytes.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([KMG])(I?))?B?", text.strip().upper())
    if not found:
        raise ConfigError("memory", expected="a number of bytes, as 64MB or 1.5GiB", found=repr(text[:40]))
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" KMG".index(unit) if unit else 0))


def meets(trial: TuningTrial, target: Target) -> bool:
    """Has it the recall, within the bytes and the time?"""
    return all(missed <= 0 for missed in _missed(trial, target).values())


def _missed(trial: TuningTrial, target: Target) -> dict[str, float]:
    """By how much each of the three is missed; not at all where it is 0 or less."""
    return {
        "recall": target.recall - trial.low,
        "memory": trial.bytes - target.memory if target.memory is not None else 0,
        "latency": trial.latency_us - target.latency_us if target.latency_us is not None else 0,
    }


def fastest(trials: list[TuningTrial]) -> TuningTrial:
    """Of those that are as fast as the fastest alone, the fastest in batch."""
    limit = AS_FAST * min(trial.latency_us for trial in trials)
    return min((trial for trial in trials if trial.latency_us <= limit), key=lambda trial: trial.batch_us)


def least_effort(trials: list[TuningTrial]) -> list[TuningTrial]:
    """Of each index, for each value of its outer parameters, the first: trials rise in the inner one."""
    first: dict[tuple[str, int, str], TuningTrial] = {}
    for trial in trials:
        first.setdefault((trial.key, trial.items, trial.search.rpartition(",")[0]), trial)
    return list(first.values())


def in_speed(trials: list[TuningTrial]) -> list[TuningTrial]:
    """The fastest first."""
    order, left = [], list(trials)
    while left:
        order.append(fastest(left))
        left.remove(order[-1])
    return order


def with_front(trials: list[TuningTrial]) -> list[TuningTrial]:
    """The trials, those of the Pareto front marked."""

    def better(one: TuningTrial, other: TuningTrial) -> bool:
        gains = (one.recall - other.recall, other.latency_us - one.latency_us, other.bytes - one.bytes)
        return one.items == other.items and min(gains) >= 0 and max(gains) > 0

    return [replace(trial, front=not any(better(other, trial) for other in trials)) for trial in trials]


def unmet(trials: list[TuningTrial], target: Target) -> TargetError:
    """What to give up, and by how much: each of the three alone, where that would be enough."""
    most = max(trial.items for trial in trials)
    trials = [trial for trial in trials if trial.items == most]
    asked = {"recall": f"recall {target.recall:g}"}
    if target.memory is not None:
        asked["memory"] = f"{target.memory:,} bytes"
    if target.latency_us is not None:
        asked["latency"] = f"{target.latency_us:g} µs"
    told: dict[str, Callable[[TuningTrial], str]] = {
        "recall": lambda trial: f"--recall {np.floor(trial.low * 1e3) / 1e3:.3f}",
        "memory": lambda trial: f"--memory {trial.bytes}",
        "latency": lambda trial: f"--latency-us {np.ceil(trial.latency_us):.0f}",
    }
    ways = []
    for name in asked:
        others = [t for t in trials if all(_missed(t, target)[other] <= 0 for other in asked if other != name)]
        others = [t for t in others if name != "recall" or t.low >= LEAST_RECALL]
        if others:
            nearest = min(others, key=lambda trial: _missed(trial, target)[name])
            ways.append(f"{told[name](nearest)} ({nearest.key} {nearest.search})".replace(" )", ")"))
    best = max(trials, key=lambda trial: trial.low)
    return TargetError(
        "target",
        expected=" within ".join(asked.values()),
        found=f"no index that has them all; the most recall is {best.low:.4f} ({best.key})",
        remedy=f"Give up one of them: {', or '.join(ways)}." if ways else "Give up two of them.",
    )
