import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from lookalike.index.drift.detector import LEVELS, SHARES, Bets, Detector, Evidence, joined, upper_rate
from lookalike.index.versions.novelty import Novelty

BETS = Bets(143)
values = st.lists(
    st.sampled_from([0.001, 0.01, 0.03, 0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 0.8, 0.9, 1.0]), min_size=1, max_size=60
)


def detector(bets: Bets = BETS, once_in: float = 1e6) -> Detector:
    return Detector(bets, Evidence.none(bets, 0.0), once_in)


def after(given_values: list[float] | NDArray[np.float64], bets: Bets = BETS) -> Evidence:
    one = detector(bets)
    one.add(np.array(given_values), 5.0)
    return one.evidence


def alike(one: Evidence, other: Evidence) -> None:
    assert (one.queries, one.alarm) == (other.queries, other.alarm)
    np.testing.assert_allclose(one.logs, other.logs, rtol=1e-9, atol=1e-9)
    for name in ("since", "asked", "strange"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("level", "rows", "doubt", "rate"),
    [
        (0.5, 1, 0.01, 0.99),  # one row: the rate is anything from 0 to 1 alike
        (0.5, 1, 0.2, 0.8),
        (0.5, 2, 0.04, 0.8),  # k = 1: all of 2 draws must miss, (1 - 0.8) ** 2 = 0.04
        (0.2, 4, 0.0001, 0.9),  # 0.1 ** 4
    ],
)
def test_the_highest_rate_by_hand(level: float, rows: int, doubt: float, rate: float) -> None:
    assert upper_rate(level, rows, doubt) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("rows", [19, 99, 143, 6_000, 54_321, 1_000_000])
@pytest.mark.parametrize("level", LEVELS)
def test_the_highest_rate_is_betas_quantile(rows: int, level: float) -> None:
    k = round(level * (rows + 1), 6) // 1
    rate = upper_rate(level, rows, 0.0025)
    assert rate == (None if k == 0 else pytest.approx(stats.beta.isf(0.0025, k, rows + 1 - k), rel=1e-7))


def test_a_level_that_no_p_value_reaches_is_left_out() -> None:
    assert [sorted(set(Bets(rows).levels)) for rows in (0, 1, 4, 19, 99)] == [
        [],
        [0.5, 0.8],
        [0.2, 0.5, 0.8],
        [0.05, 0.2, 0.5, 0.8],
        [0.01, 0.05, 0.2, 0.5, 0.8],
    ]
    assert upper_rate(0.01, 98, 0.01) is None


def test_a_bet_is_fair_at_the_highest_rate_and_a_loss_below_it() -> None:
    np.testing.assert_allclose(BETS.rates * np.exp(BETS.won) + (1 - BETS.rates) * np.exp(BETS.lost), 1)
    assert (0.9 * BETS.rates * np.exp(BETS.won) + (1 - 0.9 * BETS.rates) * np.exp(BETS.lost) < 1).all()
    assert np.exp(BETS.lost[: len(SHARES)]) == pytest.approx([0.98, 0.9, 0.6])


def test_stakes_by_hand() -> None:
    bets = Bets(1)  # p is 0.5 or 1, and the rate of p <= 0.5, and so of p <= 0.8, at most 0.998
    rate = 1 - 0.01 / 5
    np.testing.assert_allclose(bets.rates, rate)
    won = (0.4 + 0.6 * rate) / rate
    assert np.exp(after([1.0], bets).logs) == pytest.approx([0.98, 0.9, 0.6] * 2)  # a stake of 1, lost in part
    assert np.exp(after([1.0, 1.0], bets).logs[2]) == pytest.approx((0.6 + 1) * 0.6)
    assert np.exp(after([1.0, 0.5], bets).logs[2]) == pytest.approx((0.6 + 1) * won)
    assert after([1.0, 0.5], bets).total == pytest.approx(
        math.log((1.98 * (0.02 + 0.98 * rate) + 1.9 * (0.1 + 0.9 * rate) + 1.6 * (0.4 + 0.6 * rate)) / rate / 3)
    )


def test_of_normal_queries_the_evidence_is_on_average_their_number() -> None:
    """Exactly, over all histories of three queries, where each level is reached as often as it may be."""
    rates = [0.0, *BETS.rates[:: len(SHARES)], 1.0]
    kinds = list(zip([0.005, 0.03, 0.1, 0.4, 0.7, 0.9], np.diff(rates), strict=True))
    mean = sum(
        math.prod(chance for _, chance in history) * math.exp(after([p for p, _ in history]).total)
        for history in itertools.product(kinds, repeat=3)
    )
    assert mean == pytest.approx(3)


def by_loop(history: list[float], bets: Bets) -> tuple[list[float], list[int], list[int]]:
    """Stakes, and the run of luck, in the plainest way."""
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
def test_it_is_what_a_loop_makes(history: list[float]) -> None:
    stakes, asked, strange = by_loop(history, BETS)
    found = after(history)
    np.testing.assert_allclose(np.exp(found.logs), stakes, rtol=1e-9)
    assert (found.asked.tolist(), found.strange.tolist()) == (asked, strange)


@given(values, st.lists(st.integers(0, 60), max_size=5))
def test_a_batch_is_the_same_as_one_by_one(history: list[float], cuts: list[int]) -> None:
    parts, singly = detector(once_in=50), detector(once_in=50)
    for part in np.split(np.array(history), sorted(cuts)):
        parts.add(part, 5.0)
    for p in history:
        singly.add(np.array([p]), 5.0)
    alike(parts.evidence, singly.evidence)


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    history = np.random.default_rng(0).random(5_000) ** 1.3
    singly = detector()
    for p in history:
        singly.add(np.array([p]), 5.0)
    alike(after(history), singly.evidence)


@given(values, values, values)
def test_evidence_adds_up(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = after(one), after(two), after(three)
    both = joined(a, b, BETS)
    assert both.queries == len(one) + len(two)
    assert math.exp(both.total) == pytest.approx(math.exp(a.total) + math.exp(b.total))
    np.testing.assert_allclose(joined(b, a, BETS).logs, both.logs)
    np.testing.assert_allclose(joined(a, joined(b, c, BETS), BETS).logs, joined(both, c, BETS).logs)
    alike(joined(a, Evidence.none(BETS, 0.0), BETS), a)


def test_an_alarm_stays_and_is_the_first() -> None:
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
    assert joined(one.evidence, later.evidence, BETS).alarm == 3.0


def test_an_alarm_in_the_midst_of_a_batch_is_heard() -> None:
    one = detector(once_in=1e3)
    one.add(np.concatenate([np.full(10, 0.001), np.ones(900)]), 7.0)
    assert one.evidence.total < math.log(1e3)
    assert one.evidence.alarm == 7.0


def test_it_tells_since_when() -> None:
    one = detector()
    one.add(np.linspace(0.02, 1, 500), 1.0)
    one.add(np.linspace(0.02, 1, 500), 2.0)
    one.add(np.full(40, 0.001), 3.0)
    best = one.evidence.leading
    assert best is not None
    assert (
        one.evidence.since[best] == 2.0
    )  # the last stake that was worth more than the run before it came with that batch
    assert (one.evidence.asked[best], one.evidence.strange[best]) == (40, 40)


@pytest.mark.filterwarnings("error")
def test_nothing_overflows() -> None:
    one = detector()
    one.add(np.full(300_000, 1e-9), 1.0)
    assert np.isfinite(one.evidence.logs).all()
    assert one.evidence.total > 300_000
    one = detector()
    one.add(np.full(3_000, 1e-9), 1.0)
    one.add(np.ones(500_000), 2.0)
    assert one.evidence.total == pytest.approx(math.log(np.mean([0.98 / 0.02, 0.9 / 0.1, 0.6 / 0.4])))  # sums of stakes
    none = detector(Bets(0))
    none.add(np.ones(5), 1.0)
    assert (none.evidence.queries, none.evidence.total, none.evidence.alarm) == (5, -math.inf, None)


def conformal(rng: np.random.Generator, rows: int, count: int) -> NDArray[np.float64]:
    """p-values of `count` normal queries against `rows` calibration rows of the same source."""
    kept = np.sort(rng.random(rows))
    below: NDArray[np.int64] = np.searchsorted(kept, rng.random(count))
    return (1 + rows - below) / (rows + 1)


@pytest.mark.parametrize("rows", [50, 143, 2_000])
def test_false_alarms_are_as_rare_as_it_says(rows: int) -> None:
    """In n normal queries it alarms with a probability of at most n / once_in, whatever the calibration rows."""
    alarms, bets = 0, Bets(rows)
    for seed in range(300):
        one = detector(bets, once_in=20_000)
        one.add(conformal(np.random.default_rng(seed), rows, 5_000), 1.0)
        alarms += one.evidence.alarm is not None
    assert alarms <= stats.binom.ppf(0.999, 300, 5_000 / 20_000 + 0.01)


def test_without_the_bound_the_luck_of_the_calibration_rows_would_be_found() -> None:
    alarms = dict.fromkeys((143, 10**7), 0)  # as if there were so many that their luck is none
    for seed in range(30):
        drawn = conformal(np.random.default_rng(seed), 143, 50_000)
        for rows in alarms:
            one = detector(Bets(rows))
            one.add(drawn, 1.0)
            alarms[rows] += one.evidence.alarm is not None
    assert alarms[143] == 0
    assert alarms[10**7] > 10


@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0])
def test_the_bound_holds_for_p_values_of_error_and_distance(shared: float) -> None:
    """They are judged by ranks among the calibration rows, of which Beta's law speaks only where both rank alike."""

    def drawn(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        common, one, other = rng.standard_normal((3, count))
        return np.exp(shared * common + (1 - shared) * one), np.exp(shared * common + (1 - shared) * other)

    above = np.zeros(len(LEVELS))
    bounds = np.array([upper_rate(level, 200, 0.02) for level in LEVELS])
    for seed in range(400):
        rng = np.random.default_rng(seed)
        p = Novelty.calibrate(*drawn(rng, 200)).p_values(*drawn(rng, 10_000))
        above += np.array([(p <= level).mean() for level in LEVELS]) > bounds
    assert (above <= stats.binom.ppf(0.999, 400, 0.02)).all(), above


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 400), st.integers(0, 2**32 - 1))
def test_a_new_kind_of_query_is_found(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = conformal(rng, rows, 4_000)
    p[rng.random(4_000) < 0.5] = 1 / (rows + 1)
    assert after(p, Bets(rows)).alarm == 5.0
