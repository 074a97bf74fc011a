"""Have the queries changed? A sequential test on their p-values, which keeps what it says of false alarms for ever.

An e-detector (J. Shin, A. Ramdas and A. Rinaldo, "E-detectors: A Nonparametric Framework for Sequential Change
Detection", 2023) of the Shiryaev-Roberts kind. A bet says that a share of the queries is strange, of those with p at
most a level; each query multiplies its stake by a factor whose mean is at most 1 while the rate of such p-values is at
most `rate`, and a new stake of 1 is laid at each query, as the change may come at any. Over queries of normal data the
evidence, the mean over all bets, is then on average at most their number. So it alarms at `once_in`: on average there
are at least so many normal queries before a false alarm, however long it runs and however often it is looked at.

`rate` is not the level itself. The calibration rows are fixed, and so is their luck: the true rate of p at most a level
is Beta distributed over what calibration rows there might have been (V. Vovk, "Conditional Validity of Inductive
Conformal Predictors", 2012). Its upper bound of 99 % confidence, for all levels together, is what a bet is against;
without it a long run would find no drift but that luck.

Evidence adds up. Each of several processes lays the stakes of its own queries, so the sum of their evidence is on
average at most the number of all queries, and the same alarm holds for it; a process may also go on from another's.

The queries are taken to come one by one from the same source. One that is asked a thousand times is a thousand strange
ones, or none.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "ONCE_IN", "SHARES", "Bets", "Detector", "Evidence", "joined", "upper_rate"]

LEVELS = (0.01, 0.05, 0.2, 0.5, 0.8)
"""Of p-values: a new kind of query is found by the smallest, a small change of all queries by the greatest."""
SHARES = (0.02, 0.1, 0.4)
"""Of queries that are strange, as a bet has it."""
ONCE_IN = 1e6
"""Normal queries to a false alarm, where nothing else is asked for."""
DOUBT = 0.01
"""How often a calibration may be so lucky that a rate is above its bound."""
_BLOCK = 1_024

Reals = NDArray[np.float64]
Counts = NDArray[np.int64]


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
    """All pairs of a level and a share, against one version's calibration rows; too few of them leave a level out."""

    rows: int

    @cached_property
    def levels(self) -> Reals:
        """(k,) the level of each bet."""
        return np.array([level for level, _, _ in self._all])

    @cached_property
    def rates(self) -> Reals:
        """(k,) the highest rate of p <= level that normal data may have."""
        return np.array([rate for _, rate, _ in self._all])

    @cached_property
    def won(self) -> Reals:
        """(k,) the log of what a p <= level multiplies a stake by."""
        return np.array([math.log(_alleged(rate, share) / rate) for _, rate, share in self._all])

    @cached_property
    def lost(self) -> Reals:
        """(k,) the log of what another p multiplies it by."""
        return np.array([math.log1p(-share) for _, _, share in self._all])

    @cached_property
    def _all(self) -> list[tuple[float, float, float]]:
        rates = {level: upper_rate(level, self.rows, DOUBT / len(LEVELS)) for level in LEVELS}
        return [(level, rate, share) for level, rate in rates.items() if rate is not None for share in SHARES]

    def __len__(self) -> int:
        return len(self._all)


def _alleged(rate: float, share: float) -> float:
    """The rate where a share of the queries is strange, each with a p that small, and the others are normal."""
    return share + (1 - share) * rate


@dataclass(frozen=True)
class Evidence:
    """What queries have told so far; of each bet, in the order of `Bets`.

    Attributes:
        queries: seen.
        logs: (k,) the natural log of its stakes; -inf before the first query.
        since: (k,) when its present run of luck began, in seconds since 1970.
        asked: (k,) queries in that run.
        strange: (k,) of those, with p at most its level.
        alarm: when the evidence first reached the alarm, in seconds since 1970; None if it never did.
    """

    queries: int
    logs: Reals
    since: Reals
    asked: Counts
    strange: Counts
    alarm: float | None = None

    @classmethod
    def none(cls, bets: Bets, now: float) -> "Evidence":
        """Before the first query."""
        nothing = np.zeros(len(bets), np.int64)
        return cls(0, np.full(len(bets), -np.inf), np.full(len(bets), now), nothing, nothing)

    @property
    def total(self) -> float:
        """The natural log of the mean over all bets; -inf where there are none."""
        return float(np.logaddexp.reduce(self.logs)) - math.log(len(self.logs)) if len(self.logs) else -math.inf

    def luck(self, bets: Bets) -> Reals:
        """(k,) the log of what a stake laid when the present run began has become: no stake is worth more."""
        worth: Reals = self.strange * bets.won + (self.asked - self.strange) * bets.lost
        return worth

    @property
    def leading(self) -> int | None:
        """Which bet has won most; None where there are none."""
        return int(np.argmax(self.logs)) if len(self.logs) else None


def joined(one: Evidence, other: Evidence, bets: Bets) -> Evidence:
    """What the queries of both told: evidence adds up, and the run of luck is the luckier one's."""
    luckier = one.luck(bets) >= other.luck(bets)
    alarms = [evidence.alarm for evidence in (one, other) if evidence.alarm is not None]
    return Evidence(
        one.queries + other.queries,
        np.logaddexp(one.logs, other.logs),
        np.where(luckier, one.since, other.since),
        np.where(luckier, one.asked, other.asked),
        np.where(luckier, one.strange, other.strange),
        min(alarms, default=None),
    )


class Detector:
    """The evidence of one process, query by query."""

    def __init__(self, bets: Bets, evidence: Evidence, once_in: float = ONCE_IN) -> None:
        self.bets = bets
        self.evidence = evidence
        self._alarm = math.log(once_in)

    def add(self, values: Reals, now: float) -> None:
        """(n,) p-values more, in their order, that were known at `now`, in seconds since 1970."""
        for start in range(0, len(values), _BLOCK):
            self._add(values[start : start + _BLOCK], now)

    def raise_alarm(self, now: float) -> None:
        """Others found it. It stays."""
        if self.evidence.alarm is None:
            self.evidence = replace(self.evidence, alarm=now)

    def _add(self, values: Reals, now: float) -> None:
        bets, before = self.bets, self.evidence
        strange = values <= bets.levels[:, None]  # (k, n)
        sums = np.cumsum(np.where(strange, bets.won[:, None], bets.lost[:, None]), axis=1)
        zero = np.zeros((len(bets), 1))
        laid = np.concatenate([before.logs[:, None], zero, -sums[:, :-1]], axis=1)  # (k, n + 1)
        logs = sums + np.logaddexp.accumulate(laid, axis=1)[:, 1:]
        since, asked, counted = self._runs(strange, sums, now)
        queries = before.queries + len(values)
        self.evidence = Evidence(queries, logs[:, -1].copy(), since, asked, counted, before.alarm)
        if len(bets) and np.logaddexp.reduce(logs).max() - math.log(len(bets)) >= self._alarm:
            self.raise_alarm(now)

    def _runs(self, strange: NDArray[np.bool_], sums: Reals, now: float) -> tuple[Reals, Counts, Counts]:
        """A run of luck begins anew where a stake of 1 is worth more than all that it has won."""
        before, count = self.evidence, strange.shape[1]
        lowest = sums.argmin(axis=1)  # (k,)
        anew = before.luck(self.bets) + sums.min(axis=1) <= 0
        within = ~anew[:, None] | (np.arange(count) > lowest[:, None])  # (k, n)
        return (
            np.where(anew, now, before.since),
            np.where(anew, count - 1 - lowest, before.asked + count),
            np.where(anew, 0, before.strange) + (strange & within).sum(axis=1),
        )
