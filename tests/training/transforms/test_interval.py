from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.transforms import Interval, interval_of, overlapping

INTERVAL = st.one_of(
    st.none(), st.builds(lambda name, start, size: Interval(name, start, start + size), *(
        st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 5)
    ))
)  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"recording": "a", "start": 3, "end": 5, "label": "x"}, Interval("a", 3, 5)),
        ({"recording": 7, "start": 0.5, "end": 2.5}, Interval("7", 0.5, 2.5)),
        ({"recording": "a", "start": "1970-01-01T00:00:02", "end": "1970-01-01T00:01:00.5Z"}, Interval("a", 2, 60.5)),
        ({"recording": "a", "start": "soon", "end": 9}, None),
        ({"recording": "a", "start": "NaT", "end": 9}, None),
        ({"recording": "a", "start": "1970-01-01", "end": "today"}, None),
        ({"recording": "a", "start": 0, "end": "now"}, None),
        ({"recording": "a", "start": "1970-01-02", "end": "1970-01-02 00:00:01"}, Interval("a", 86_400, 86_401)),
        ({"recording": "a", "start": "1970-01-01T00:00+05:00", "end": 9}, None),
        ({"recording": "a", "start": float("nan"), "end": 9}, None),
        ({"recording": "a", "start": True, "end": 9}, None),
        ({"recording": "a", "start": 9, "end": 9}, None),
        ({"recording": "a", "start": 9}, None),
        ({"start": 1, "end": 9}, None),
        ({}, None),
    ],
)
def test_reads_an_interval_from_a_payload(payload: dict[str, Any], expected: Interval | None) -> None:
    assert interval_of(payload) == expected


def test_another_field_may_name_the_recording() -> None:
    assert interval_of({"subject": 3, "start": 1, "end": 2}, "subject") == Interval("3", 1, 2)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Interval("a", 5, 9), True),
        (Interval("a", 8, 9), False),  # adjacent
        (Interval("a", 0, 4), False),
        (Interval("a", 0, 4.1), True),
        (Interval("b", 4, 8), False),
    ],
)
def test_intervals_of_one_recording_overlap_if_they_share_time(other: Interval, expected: bool) -> None:
    assert Interval("a", 4, 8).overlaps(other) is other.overlaps(Interval("a", 4, 8)) is expected


def test_an_interval_is_widened_at_both_ends_and_never_narrowed() -> None:
    assert Interval("a", 4, 8).widened(3) == Interval("a", 1, 11)
    assert Interval("a", 4, 8).widened(-3) == Interval("a", 4, 8)


@given(intervals=st.lists(INTERVAL, max_size=12), seed=st.integers(0, 99))
def test_finds_the_same_overlaps_as_a_comparison_of_all_pairs(intervals: list[Interval | None], seed: int) -> None:
    chosen = np.random.default_rng(seed).random(len(intervals)) < 0.3
    picked = [one for one, is_chosen in zip(intervals, chosen, strict=True) if is_chosen and one]
    expected = [
        one is not None and not is_chosen and any(one.overlaps(other) for other in picked)
        for one, is_chosen in zip(intervals, chosen, strict=True)
    ]
    assert overlapping(intervals, chosen).tolist() == expected
