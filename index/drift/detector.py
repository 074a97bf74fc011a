"""Detect a change of the queries with a sequential test on their p-values, whose false alarm rate holds at any time.

The test is an e-detector of the Shiryaev-Roberts kind (J. Shin, A. Ramdas and A. Rinaldo, "E-detectors: A Nonparametric
Framework for Sequential Change Detection", 2023). A bet claims that a share of the queries is strange, that is, has p
at most a level. Each query multiplies the stakes of a bet by a factor whose mean is at most 1 as long as the rate of
such p-values is at most `rate`. As a change may begin at any query, each query also adds a new stake of 1. So over
normal queries, the evidence (the mean over all bets) is on average at most their number. An alarm at evidence `once_in`
therefore has on average at least `once_in` normal queries before a false alarm, regardless of how long the test runs
and how often its evidence is read.

`rate` is not the level itself. The calibration rows are fixed, and random: over all possible calibration rows, the true
rate of p at most a level has a Beta distribution (V. Vovk, "Conditional Validity of Inductive Conformal Predictors",
2012). A bet uses the upper bound of this rate with 99 % confidence for all levels together. Without the bound, a long
run would detect the deviation of the calibration rows instead of drift.

Evidence is additive. Each of several processes adds stakes for its queries, so the sum of their evidence is on average
at most the number of all queries, and the same alarm threshold holds. A process may also continue from the evidence of
another process.

The queries are assumed to come independently from one source. A query that is repeated a thousand times counts as a
thousand strange queries, or as none.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from lookalike.training.array_types import Booleans, Doubles, Integers

__all__ = ["LEVELS", "ONCE_IN", "SHARES", "Bets", "Detector", "Evidence", "combine", "upper_rate"]

LEVELS = (0.01, 0.05, 0.2, 0.5, 0.8)
"""Levels of p-values: the smallest detects a new kind of query, the largest a small change of all queries."""
SHARES = (0.02, 0.1, 0.4)
"""The shares of strange queries that bets claim."""
ONCE_IN = 1e6
"""The default mean number of normal queries per false alarm."""
DOUBT = 0.01
"""The probability that any rate of a calibration is above its bound."""
_BLOCK = 1_024


@lru_cache(64)
def upper_rate(level: float, rows: int, doubt: float) -> float | None:
    """Return the upper bound of the rate of p <= `level`, which holds for all but a share `doubt` of calibration sets.

    The rate follows Beta(k, rows + 1 - k) with k = floor(level (rows + 1)), for sets of `rows` calibration rows. The
    bound is the 1 - doubt quantile. Return None if no p-value can be as small as the level.
    """
    from scipy.special import betaincinv  # the quantile of scipy.stats.beta, which takes 0.5 s to import

    k = math.floor(level * (rows + 1) * (1 + 1e-12))
    return float(betaincinv(k, rows + 1 - k, 1 - doubt)) if k else None


@dataclass(frozen=True)
class Bets:
    """All k pairs of a level and a share, for a number of calibration rows; too few rows leave out the low levels."""

    rows: int

    @cached_property
    def levels(self) -> Doubles:
        """The level of each bet, (k,)."""
        return np.array([level for level, _, _ in self._all])

    @cached_property
    def rates(self) -> Doubles:
        """The highest rate of p <= level that normal data may have, (k,)."""
        return np.array([rate for _, rate, _ in self._all])

    @cached_property
    def won(self) -> Doubles:
        """The log of the factor for a query with p <= level: the claimed rate of such p-values by `rates`, (k,)."""
        return np.array([math.log((share + (1 - share) * rate) / rate) for _, rate, share in self._all])

    @cached_property
    def lost(self) -> Doubles:
        """The log of the factor for any other query, (k,)."""
        return np.array([math.log1p(-share) for _, _, share in self._all])

    @cached_property
    def _all(self) -> list[tuple[float, float, float]]:
        rates = {level: upper_rate(level, self.rows, DOUBT / len(LEVELS)) for level in LEVELS}
        return [(level, rate, share) for level, rate in rates.items() if rate is not None for share in SHARES]

    def __len__(self) -> int:
        return len(self._all)


@dataclass(frozen=True)
class Evidence:
    """The evidence of all queries so far; arrays have one value for each bet, in the order of `Bets`.

    A run of a bet is the time since a stake of 1 was last worth at least as much as all earlier ones: the time since
    the change that the bet claims, if there is one.

    Attributes:
        queries: the number of queries.
        logs: (k,) the natural log of the stakes; -inf before the first query.
        since: (k,) the start of the current run, in seconds since 1970.
        asked: (k,) the number of queries in the run.
        strange: (k,) the number of these with p at most the level.
        alarm: the time when the evidence first reached the alarm, in seconds since 1970; None if it never did.
    """

    queries: int
    logs: Doubles
    since: Doubles
    asked: Integers
    strange: Integers
    alarm: float | None = None

    @classmethod
    def none(cls, bets: Bets, now: float) -> "Evidence":
        """Return the evidence before the first query."""
        zeros = np.zeros(len(bets), np.int64)
        return cls(0, np.full(len(bets), -np.inf), np.full(len(bets), now), zeros, zeros)

    @property
    def total(self) -> float:
        """The natural log of the mean over all bets; -inf if there are no bets."""
        return float(np.logaddexp.reduce(self.logs)) - math.log(len(self.logs)) if len(self.logs) else -math.inf

    def run_value(self, bets: Bets) -> Doubles:
        """Return the log of the value of the stake added at the start of the run, the most valuable stake: (k,)."""
        value: Doubles = self.strange * bets.won + (self.asked - self.strange) * bets.lost
        return value

    @property
    def leading(self) -> int | None:
        """The index of the bet with the most evidence; None if there are no bets."""
        return int(np.argmax(self.logs)) if len(self.logs) else None


def combine(one: Evidence, other: Evidence, bets: Bets) -> Evidence:
    """Return the evidence of both: stakes are added, and each run is the one with the higher value."""
    first = one.run_value(bets) >= other.run_value(bets)
    alarms = [evidence.alarm for evidence in (one, other) if evidence.alarm is not None]
    return Evidence(
        one.queries + other.queries,
        np.logaddexp(one.logs, other.logs),
        np.where(first, one.since, other.since),
        np.where(first, one.asked, other.asked),
        np.where(first, one.strange, other.strange),
        min(alarms, default=None),
    )


class Detector:
    """Collects the evidence of one process, query by query."""

    def __init__(self, bets: Bets, evidence: Evidence, once_in: float = ONCE_IN) -> None:
        self.bets, self.evidence = bets, evidence
        self._alarm = math.log(once_in)

    def add(self, values: Doubles, now: float) -> None:
        """Add p-values, (n,), in the order of the queries; `now` is in seconds since 1970."""
        for start in range(0, len(values), _BLOCK):
            self._add(values[start : start + _BLOCK], now)

    def raise_alarm(self, now: float) -> None:
        """Set the alarm, unless it is already set: for example because of the evidence of all processes together."""
        if self.evidence.alarm is None:
            self.evidence = replace(self.evidence, alarm=now)

    def _add(self, values: Doubles, now: float) -> None:
        bets, before = self.bets, self.evidence
        strange = values <= bets.levels[:, None]  # (k, n)
        sums = np.cumsum(np.where(strange, bets.won[:, None], bets.lost[:, None]), axis=1)
        zero = np.zeros((len(bets), 1))
        stakes = np.concatenate([before.logs[:, None], zero, -sums[:, :-1]], axis=1)  # (k, n + 1)
        logs = sums + np.logaddexp.accumulate(stakes, axis=1)[:, 1:]
        since, asked, counted = self._runs(strange, sums, now)
        queries = before.queries + len(values)
        self.evidence = Evidence(queries, logs[:, -1].copy(), since, asked, counted, before.alarm)
        if len(bets) and np.logaddexp.reduce(logs).max() - math.log(len(bets)) >= self._alarm:
            self.raise_alarm(now)

    def _runs(self, strange: Booleans, sums: Doubles, now: float) -> tuple[Doubles, Integers, Integers]:
        """Return `since`, `asked` and `strange`; a run restarts once a new stake of 1 is worth at least its value."""
        before, count = self.evidence, strange.shape[1]
        lowest = sums.argmin(axis=1)  # (k,)
        restarts = before.run_value(self.bets) + sums.min(axis=1) <= 0
        within = ~restarts[:, None] | (np.arange(count) > lowest[:, None])  # (k, n)
        return (
            np.where(restarts, now, before.since),
            np.where(restarts, count - 1 - lowest, before.asked + count),
            np.where(restarts, 0, before.strange) + (strange & within).sum(axis=1),
        )
