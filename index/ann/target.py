"""The target of an index, the results of tuning trials, and the choice among them."""

import math
import re
from dataclasses import dataclass, replace

from lookalike.index.errors import TargetError
from lookalike.training.errors import ConfigError

__all__ = [
    "Target",
    "TuningTrial",
    "fastest",
    "in_speed",
    "least_effort",
    "meets",
    "read_bytes",
    "unreachable_target",
    "with_front",
]

LEAST_RECALL = 0.001
AS_FAST = 1.1
"""Latencies within this factor count as equal: timings are not more accurate."""


@dataclass(frozen=True)
class Target:
    """The requirements of an index.

    Attributes:
        recall: the least recall of the 10 nearest; the lower end of the 95 % interval must reach it.
        memory: the most bytes of the index, with vectors, graph and ids; None means unlimited.
        latency_us: the most microseconds of a single query on one thread; None means unlimited.
        key: FAISS's description of the index to use; None chooses the kind.
    """

    recall: float = 0.95
    memory: int | None = None
    latency_us: float | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError if a value is out of range."""
        if self.key == "":
            raise ConfigError("target.key", expected="FAISS's description of an index", found="an empty text")
        for name, most in {"recall": 1, "memory": 1 << 62, "latency_us": 1e12}.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise ConfigError(f"target.{name}", expected=f"more than 0, at most {most:g}", found=f"{value:g}")


@dataclass(frozen=True)
class TuningTrial:
    """The measurements of one index with one set of search parameters; times are for one thread.

    Attributes:
        front: whether it is on the Pareto front of recall, latency and bytes, among trials over as many items.
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
    """Parse a number of bytes such as "64MB"; units: B, KB, MB, GB (powers of 1,000), KiB, MiB, GiB (powers of 1,024).

    Raises ConfigError if the text is not a number of bytes.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([KMG])(I?))?B?", text.strip().upper())
    if not found:
        raise ConfigError("memory", expected="a number of bytes, such as 64MB or 1.5GiB", found=repr(text[:40]))
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" KMG".index(unit) if unit else 0))


def meets(trial: TuningTrial, target: Target) -> bool:
    """Whether a trial has the recall within the limits of memory and latency."""
    return all(missed <= 0 for missed in _missed(trial, target).values())


def _missed(trial: TuningTrial, target: Target) -> dict[str, float]:
    """Return by how much a trial misses each of the three requirements; 0 or less means that it meets it."""
    return {
        "recall": target.recall - trial.low,
        "memory": trial.bytes - target.memory if target.memory is not None else 0,
        "latency": trial.latency_us - target.latency_us if target.latency_us is not None else 0,
    }


def fastest(trials: list[TuningTrial]) -> TuningTrial:
    """Return the trial with the fastest batch, among those with about the lowest latency."""
    limit = AS_FAST * min(trial.latency_us for trial in trials)
    return min((trial for trial in trials if trial.latency_us <= limit), key=lambda trial: trial.batch_us)


def least_effort(trials: list[TuningTrial]) -> list[TuningTrial]:
    """Return the first trial of each index and value of its outer parameters: the inner parameter ascends."""
    first: dict[tuple[str, int, str], TuningTrial] = {}
    for trial in trials:
        first.setdefault((trial.key, trial.items, trial.search.rpartition(",")[0]), trial)
    return list(first.values())


def in_speed(trials: list[TuningTrial]) -> list[TuningTrial]:
    """Return the trials, the fastest first."""
    order, left = [], list(trials)
    while left:
        order.append(fastest(left))
        left.remove(order[-1])
    return order


def with_front(trials: list[TuningTrial]) -> list[TuningTrial]:
    """Return the trials with `front` set."""

    def better(left: TuningTrial, right: TuningTrial) -> bool:
        gains = (left.recall - right.recall, right.latency_us - left.latency_us, right.bytes - left.bytes)
        return left.items == right.items and min(gains) >= 0 and max(gains) > 0

    return [replace(trial, front=not any(better(other, trial) for other in trials)) for trial in trials]


def unreachable_target(trials: list[TuningTrial], target: Target) -> TargetError:
    """Return the error of an unreachable target: for each requirement, the value that suffices if only it changes."""
    most = max(trial.items for trial in trials)
    trials = [trial for trial in trials if trial.items == most]
    required = {"recall": f"recall {target.recall:g}"}
    if target.memory is not None:
        required["memory"] = f"{target.memory:,} bytes"
    if target.latency_us is not None:
        required["latency"] = f"{target.latency_us:g} µs"
    remedies = []
    for name in required:
        eligible = [t for t in trials if all(_missed(t, target)[other] <= 0 for other in required if other != name)]
        eligible = [t for t in eligible if name != "recall" or t.low >= LEAST_RECALL]
        if eligible:
            nearest = min(eligible, key=lambda trial: _missed(trial, target)[name])
            options = {
                "recall": f"--recall {math.floor(nearest.low * 1e3) / 1e3:.3f}",
                "memory": f"--memory {nearest.bytes}",
                "latency": f"--latency-us {math.ceil(nearest.latency_us)}",
            }
            remedies.append(f"{options[name]} ({nearest.key} {nearest.search})".replace(" )", ")"))
    best = max(trials, key=lambda trial: trial.low)
    return TargetError(
        "target",
        expected=" within ".join(required.values()),
        found=f"no index that meets all requirements; the highest recall is {best.low:.4f} ({best.key})",
        remedy=f"Relax one of them: {', or '.join(remedies)}." if remedies else "Relax two of them.",
    )
