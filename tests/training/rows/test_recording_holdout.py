import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.rows.recording_holdout import hold_out_recordings
from tests.factories import intervals


@given(
    counts=st.lists(st.integers(1, 30), min_size=4, max_size=20),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
)
def test_holds_out_whole_recordings_or_the_end_of_each(counts: list[int], share: float, seed: int) -> None:
    places = intervals(*counts)
    held = hold_out_recordings(places, share, seed)
    assert held.any()
    recordings = np.repeat(np.arange(len(counts)), counts)
    shares = np.bincount(recordings, held) / counts
    if ((shares == 0) | (shares == 1)).all():
        assert held.sum() <= max(3 * max(1, round(len(held) * share)), 1)
    else:  # the end of each recording
        for number, count in enumerate(counts):
            of_one = held[recordings == number]
            assert (np.diff(of_one.astype(int)) >= 0).all()
            assert of_one.sum() in {np.rint(count * share), max(1, np.rint(count * share))}
    assert np.array_equal(held, hold_out_recordings(places, share, seed))


def test_recordings_of_about_the_share_are_held_out_whole_by_the_seed() -> None:
    chosen = {tuple(np.flatnonzero(hold_out_recordings(intervals(*[5] * 20), 0.1, seed))) for seed in range(9)}
    assert len(chosen) > 3
    for places in chosen:
        assert len(places) == 10
        assert {place // 5 for place in places} == {places[0] // 5, places[-1] // 5}


@pytest.mark.parametrize(("counts", "held"), [((20,), {18, 19}), ((20, 20), {18, 19, 38, 39}), ((2,), {1})])
def test_the_end_of_few_long_recordings_is_held_out(counts: tuple[int, ...], held: set[int]) -> None:
    assert set(np.flatnonzero(hold_out_recordings(intervals(*counts), 0.1, 0))) == held
