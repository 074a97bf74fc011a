import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from lookalike.index.drift.detector import LEVELS, SHARES, Bets, Detector, Evidence, combine, upper_rate
from lookalike.index.versions.novelty import Novelty

BETS = Bets(143)
values = st.lists(
    st.sampled_from([0.001, 0.01, 0.03, 0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 0.8, 0.9, 1.0]), min_size=1, max_size=60
)


def detector(bets: Bets = BETS, once_in: float = 1e6) -> Detector:
    return Detector(bets, Evidence.none(bets, 0.0), once_in)


def evidence_of(given_values: list[float] | NDArray[np.float64], bets: Bets = BETS) -> Evidence:
    one = detector(bets)
    one.add(np.array(given_values), 5.0)
    return one.evidence


def assert_equal_evidence(one: Evidence, other: Evidence) -> None:
    assert (one.queries, one.alarm) == (other.queries, other.alarm)
    np.testing.assert_allclose(one.logs, other.logs, rtol=1e-9, atol=1e-9)
    for name in ("since", "asked", "strange"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("level", "rows", "doubt", "rate"),
    [
        (0.5, 1, 0.01, 0.99),  # one row: the rate is uniform on [0, 1]
        (0.5, 1, 0.2, 0.8),
        (0.5, 2, 0.04, 0.8),  # k = 1: all of 2 draws must miss, (1 - 0.8) ** 2 = 0.04
        (0.2, 4, 0.0001, 0.9),  # 0.1 ** 4
    ],
)
def test_upper_rate(level: float, rows: int, doubt: float, rate: float) -> None:
    assert upper_rate(level, rows, doubt) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("rows", [19, 99, 143, 6_000, 54_321, 1_000_000])
@pytest.mark.parametrize("level", LEVELS)
def test_upper_rate_agrees_with_the_beta_quantile(rows: int, level: float) -> None:
    k = round(level * (rows + 1), 6) // 1
    rate = upper_rate(level, rows, 0.0025)
    assert rate == (None if k == 0 else pytest.approx(stats.beta.isf(0.0025, k, rows + 1 - k), rel=1e-7))


def test_leaves_out_levels_that_no_p_value_reaches() -> None:
    assert [sorted(set(Bets(rows).levels)) for rows in (0, 1, 4, 19, 99)] == [
        [],
        [0.5, 0.8],
        [0.2, 0.5, 0.8],
        [0.05, 0.2, 0.5, 0.8],
        [0.01, 0.05, 0.2, 0.5, 0.8],
    ]
    assert upper_rate(0.01, 98, 0.01) is None


def test_a_bet_is_fair_at_its_rate_and_loses_below_it() -> None:
    np.testing.assert_allclose(BETS.rates * np.exp(BETS.won) + (1 - BETS.rates) * np.exp(BETS.lost), 1)
    assert (0.9 * BETS.rates * np.exp(BETS.won) + (1 - 0.9 * BETS.rates) * np.exp(BETS.lost) < 1).all()
    assert np.exp(BETS.lost[: len(SHARES)]) == pytest.approx([0.98, 0.9, 0.6])


def test_stakes() -> None:
    bets = Bets(1)  # p is 0.5 or 1; the rates of p <= 0.5 and p <= 0.8 are at most 0.998
    rate = 1 - 0.01 / 5
    np.testing.assert_allclose(bets.rates, rate)
    won = (0.4 + 0.6 * rate) / rate
    assert np.exp(evidence_of([1.0], bets).logs) == pytest.approx([0.98, 0.9, 0.6] * 2)  # a part is lost
    assert np.exp(evidence_of([1.0, 1.0], bets).logs[2]) == pytest.approx((0.6 + 1) * 0.6)
    assert np.exp(evidence_of([1.0, 0.5], bets).logs[2]) == pytest.approx((0.6 + 1) * won)
    assert evidence_of([1.0, 0.5], bets).total == pytest.approx(
        math.log((1.98 * (0.02 + 0.98 * rate) + 1.9 * (0.1 + 0.9 * rate) + 1.6 * (0.4 + 0.6 * rate)) / rate / 3)
    )


def test_the_mean_evidence_of_normal_queries_is_their_number() -> None:
    """Exact mean over all histories of three queries, if each level is reached at the highest allowed rate."""
    rates = [0.0, *BETS.rates[:: len(SHARES)], 1.0]
    kinds = list(zip([0.005, 0.03, 0.1, 0.4, 0.7, 0.9], np.diff(rates), strict=True))
    mean = sum(
        math.prod(chance for _, chance in history) * math.exp(evidence_of([p for p, _ in history]).total)
        for history in itertools.product(kinds, repeat=3)
    )
    assert mean == pytest.approx(3)


def by_loop(history: list[float], bets: Bets) -> tuple[list[float], list[int], list[int]]:
    """A plain reference implementation of stakes and runs."""
    stakes, asked, strange = [], [], []
    for level, won, lost in zip(bets.levels, np.exp(bets.won), np.exp(bets.lost), strict=True):
        stake, worth, run, hits = 0.0, 1.0, 0, 0
        for p in history:
            factor = won if p <= level else lost
            stake, worth, run, hits = (stake + 1) * factor, worth * factor, run + 1, hits + (p <= level)
            if worth <= 1:
                worth, run, hits = 1.0, 0, 0
        stakes.append(stake)
        asked.append(run)
        strange.append(hits)
    return stakes, asked, strange


@given(values)
def test_agrees_with_a_plain_loop(history: list[float]) -> None:
    stakes, asked, strange = by_loop(history, BETS)
    found = evidence_of(history)
    np.testing.assert_allclose(np.exp(found.logs), stakes, rtol=1e-9)
    assert (found.asked.tolist(), found.strange.tolist()) == (asked, strange)


@given(values, st.lists(st.integers(0, 60), max_size=5))
def test_batches_equal_single_queries(history: list[float], cuts: list[int]) -> None:
    parts, singly = detector(once_in=50), detector(once_in=50)
    for part in np.split(np.array(history), sorted(cuts)):
        parts.add(part, 5.0)
    for p in history:
        singly.add(np.array([p]), 5.0)
    assert_equal_evidence(parts.evidence, singly.evidence)


def test_large_batches_equal_single_queries() -> None:
    history = np.random.default_rng(0).random(5_000) ** 1.3
    singly = detector()
    for p in history:
        singly.add(np.array([p]), 5.0)
    assert_equal_evidence(evidence_of(history), singly.evidence)


@given(values, values, values)
def test_evidence_is_additive(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = evidence_of(one), evidence_of(two), evidence_of(three)
    both = combine(a, b, BETS)
    assert both.queries == len(one) + len(two)
    assert math.exp(both.total) == pytest.approx(math.exp(a.total) + math.exp(b.total))
    np.testing.assert_allclose(combine(b, a, BETS).logs, both.logs)
    np.testing.assert_allclose(combine(a, combine(b, c, BETS), BETS).logs, combine(both, c, BETS).logs)
    assert_equal_evidence(combine(a, Evidence.none(BETS, 0.0), BETS), a)


def test_the_first_alarm_stays() -> None:
    one = detector(once_in=100)
    one.add(np.full(4, 0.001), 7.0)
    alarm = one.evidence.alarm
    one.add(np.full(3, 0.001), 8.0)
    assert (alarm, one.evidence.alarm) == (7.0, 7.0)
    one.add(np.full(5_000, 1.0), 9.0)
    assert one.evidence.total < math.log(100)
    one.raise_alarm(10.0)
    assert one.evidence.alarm == 7.0
    later = detector(once_in=100)
    later.raise_alarm(3.0)
    assert combine(one.evidence, later.evidence, BETS).alarm == 3.0


def test_detects_an_alarm_within_a_batch() -> None:
    one = detector(once_in=1e3)
    one.add(np.concatenate([np.full(10, 0.001), np.ones(900)]), 7.0)
    assert one.evidence.total < math.log(1e3)
    assert one.evidence.alarm == 7.0


def test_reports_the_start_of_the_change() -> None:
    one = detector()
    one.add(np.linspace(0.02, 1, 500), 1.0)
    one.add(np.linspace(0.02, 1, 500), 2.0)
    one.add(np.full(40, 0.001), 3.0)
    best = one.evidence.leading
    assert best is not None
    assert one.evidence.since[best] == 2.0  # the batch in which the current run began
    assert (one.evidence.asked[best], one.evidence.strange[best]) == (40, 40)


@pytest.mark.filterwarnings("error")
def test_does_not_overflow() -> None:
    one = detector()
    one.add(np.full(300_000, 1e-9), 1.0)
    assert np.isfinite(one.evidence.logs).all()
    assert one.evidence.total > 300_000
    one = detector()
    one.add(np.full(3_000, 1e-9), 1.0)
    one.add(np.ones(500_000), 2.0)
    assert one.evidence.total == pytest.approx(math.log(np.mean([0.98 / 0.02, 0.9 / 0.1, 0.6 / 0.4])))  # series
    none = detector(Bets(0))
    none.add(np.ones(5), 1.0)
    assert (none.evidence.queries, none.evidence.total, none.evidence.alarm) == (5, -math.inf, None)


def conformal(rng: np.random.Generator, rows: int, count: int) -> NDArray[np.float64]:
    """p-values of `count` normal queries against `rows` calibration rows of the same source."""
    kept = np.sort(rng.random(rows))
    below: NDArray[np.int64] = np.searchsorted(kept, rng.random(count))
    return (1 + rows - below) / (rows + 1)


@pytest.mark.parametrize("rows", [50, 143, 2_000])
def test_the_false_alarm_rate_is_within_its_bound(rows: int) -> None:
    """The probability of an alarm within n normal queries is at most n / once_in, for any calibration rows."""
    alarms, bets = 0, Bets(rows)
    for seed in range(300):
        one = detector(bets, once_in=20_000)
        one.add(conformal(np.random.default_rng(seed), rows, 5_000), 1.0)
        alarms += one.evidence.alarm is not None
    assert alarms <= stats.binom.ppf(0.999, 300, 5_000 / 20_000 + 0.01)


def test_without_the_bound_detects_the_deviation_of_the_calibration_rows() -> None:
    alarms = dict.fromkeys((143, 10**7), 0)  # with 10^7 rows, bets assume that their deviation is negligible
    for seed in range(30):
        sampled = conformal(np.random.default_rng(seed), 143, 50_000)
        for rows in alarms:
            one = detector(Bets(rows))
            one.add(sampled, 1.0)
            alarms[rows] += one.evidence.alarm is not None
    assert alarms[143] == 0
    assert alarms[10**7] > 10


@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0])
def test_the_bound_holds_for_combined_p_values(shared: float) -> None:
    """P-values combine two ranks; the Beta distribution is exact only if both ranks are equal."""

    def sampled(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        common, one, other = rng.standard_normal((3, count))
        return np.exp(shared * common + (1 - shared) * one), np.exp(shared * common + (1 - shared) * other)

    above = np.zeros(len(LEVELS))
    bounds = np.array([upper_rate(level, 200, 0.02) for level in LEVELS])
    for seed in range(400):
        rng = np.random.default_rng(seed)
        p = Novelty.calibrate(*sampled(rng, 200)).p_values(*sampled(rng, 10_000))
        above += np.array([(p <= level).mean() for level in LEVELS]) > bounds
    assert (above <= stats.binom.ppf(0.999, 400, 0.02)).all(), above


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 400), st.integers(0, 2**32 - 1))
def test_detects_a_new_kind_of_query(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = conformal(rng, rows, 4_000)
    p[rng.random(4_000) < 0.5] = 1 / (rows + 1)
    assert evidence_of(p, Bets(rows)).alarm == 5.0
