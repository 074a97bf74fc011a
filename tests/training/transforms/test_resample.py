"""Resampling against closed forms, and the same result whatever the blocks are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import firwin

from lookalike.training.array_types import Doubles, Integers
from lookalike.training.transforms.resample import Resampler, factor_of


def resampled(
    times: Doubles, values: Doubles, rate: float, factor: int = 1, blocks: tuple[int, ...] = ()
) -> tuple[Doubles, Integers]:
    """Resample one channel in blocks that end at the given positions; the code of a sample is its number."""
    resampler, codes = Resampler(rate, factor, 1), np.arange(len(times))
    parts = []
    for first, last in zip([0, *blocks], [*blocks, len(times)], strict=True):
        if last > first:
            parts.append(resampler.add(times[first:last], values[first:last, None], codes[first:last]))
    parts.append(resampler.finish())
    joined = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return joined[0][:, 0], joined[1]


@pytest.mark.parametrize(
    ("source", "rate", "factor"),
    [(50, 50, 1), (52, 50, 1), (40, 50, 1), (53, 50, 2), (100, 50, 2), (101, 50, 3), (44_100, 16_000, 3)],
)
def test_the_factor_is_above_one_only_if_the_rate_is_reduced(source: float, rate: float, factor: int) -> None:
    assert factor_of(source, rate) == factor


def test_an_even_clock_of_the_same_rate_changes_nothing() -> None:
    times = np.arange(1_000) / 50 + 1.7e9  # rounded to 2.4e-7 s
    values = np.random.default_rng(0).normal(size=1_000)
    found, codes = resampled(times, values, 50.0)
    assert found.tolist() == values.tolist()
    assert codes.tolist() == list(range(1_000))


def test_linear_interpolation_by_hand() -> None:
    found, codes = resampled(np.array([0.0, 0.5, 2.0, 3.0]), np.array([0.0, 1.0, 4.0, 2.0]), 1.0)
    assert found.tolist() == [0, 2, 4, 2]  # at 1 s, a third of the way from 1 to 4
    assert codes.tolist() == [0, 1, 2, 3]


def test_a_sample_between_a_value_and_a_missing_one_is_missing() -> None:
    found, _ = resampled(np.array([0.0, 0.5, 1.5, 2.5, 3.0]), np.array([0.0, 1.0, np.nan, 3.0, 4.0]), 1.0)
    assert np.isnan(found).tolist() == [False, True, True, False]


def test_one_sample_stays_one_sample() -> None:
    assert resampled(np.array([7.0]), np.array([3.0]), 10.0)[0].tolist() == [3.0]


@pytest.mark.parametrize("rate", [100.0, 37.0])
def test_a_sine_with_an_uneven_clock_follows_the_closed_form(rate: float) -> None:
    generator = np.random.default_rng(1)
    times = np.cumsum(generator.uniform(0.5e-3, 1.5e-3, 20_000))  # about 1,000 samples per second
    times -= times[0]
    found, _ = resampled(times, np.sin(2 * np.pi * 3 * times), rate, factor_of(1_000.0, rate))
    exact = np.sin(2 * np.pi * 3 * np.arange(len(found)) / rate)
    assert len(found) == int(times[-1] * rate) + 1
    inside = slice(12, -12)  # beyond the ends the filter has only some of its taps
    np.testing.assert_allclose(found[inside], exact[inside], atol=2e-3)


def test_what_the_lower_rate_cannot_represent_is_removed() -> None:
    times = np.arange(20_000) / 1_000
    fast = np.sin(2 * np.pi * 180 * times)  # would appear at 20 per second after a reduction to 100 samples per second
    found, _ = resampled(times, fast, 100.0, 10)
    assert np.abs(found[12:-12]).max() < 0.01
    assert np.abs(fast[::10]).max() > 0.9


def test_the_filter_at_an_end_by_hand() -> None:
    values = np.random.default_rng(2).normal(size=41)
    found, _ = resampled(np.arange(41.0), values, 0.5, 2)
    taps = firwin(41, 1 / 2, window=("kaiser", 5.0))
    middle = taps @ values  # the result number 10 has all taps
    first = (taps[20:] @ values[:21]) / taps[20:].sum()  # the first result has the taps from the middle on
    assert len(found) == 21
    np.testing.assert_allclose(found[[0, 10]], [first, middle], rtol=1e-12)


def test_the_filter_keeps_a_constant_despite_missing_samples() -> None:
    values = np.full(400, 5.0)
    values[[50, 51, 52, 200]] = np.nan
    found, _ = resampled(np.arange(400.0), values, 0.25, 4)
    missing = np.isnan(found)
    assert np.flatnonzero(missing).tolist() == [13, 50]  # the samples 52 and 200
    np.testing.assert_allclose(found[~missing], 5.0, rtol=1e-12)


@given(
    seed=st.integers(0, 1_000),
    count=st.integers(1, 300),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    rate=st.sampled_from([3.0, 10.0, 31.7]),
)
def test_the_blocks_do_not_matter(seed: int, count: int, cuts: list[int], rate: float) -> None:
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.uniform(0.01, 0.2, count))
    values = np.where(generator.random(count) < 0.05, np.nan, generator.normal(size=count))
    blocks = tuple(sorted(cut for cut in cuts if cut < count))
    factor = factor_of(10.0, rate)
    whole, parts = resampled(times, values, rate, factor), resampled(times, values, rate, factor, blocks)
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_array_equal(parts[1], whole[1])
