from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.transforms import Stretch, overlapping, stretch_of

STRETCH = st.one_of(
    st.none(), st.builds(lambda name, start, size: Stretch(name, start, start + size), *(
        st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 5)
    ))
)  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"recording": "a", "start": 3, "end": 5, "label": "x"}, Stretch("a", 3, 5)),
        ({"recording": 7, "start": 0.5, "end": 2.5}, Stretch("7", 0.5, 2.5)),
        ({"recording": "a", "start": "1970-01-01T00:00:02", "end": "1970-01-01T00:01:00.5Z"}, Stretch("a", 2, 60.5)),
        ({"recording": "a", "start": "soon", "end": 9}, None),
        ({"recording": "a", "start": "NaT", "end": 9}, None),
        ({"recording": "a", "start": "1970-01-01", "end": "today"}, None),
        ({"recording": "a", "start": 0, "end": "now"}, None),
        ({"recording": "a", "start": "1970-01-02", "end": "1970-01-02 00:00:01"}, Stretch("a", 86_400, 86_401)),
        ({"recording": "a", "start": "1970-01-01T00:00+05:00", "end": 9}, None),
        ({"recording": "a", "start": float("nan"), "end": 9}, None),
        ({"recording": "a", "start": True, "end": 9}, None),
        ({"recording": "a", "start": 9, "end": 9}, None),
        ({"recording": "a", "start": 9}, None),
        ({"start": 1, "end": 9}, None),
        ({}, None),
    ],
)
def test_reads_a_stretch_from_a_payload(payload: dict[str, Any], expected: Stretch | None) -> None:
    assert stretch_of(payload) == expected


def test_another_field_may_name_the_recording() -> None:
    assert stretch_of({"subject": 3, "start": 1, "end": 2}, "subject") == Stretch("3", 1, 2)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Stretch("a", 5, 9), True),
        (Stretch("a", 8, 9), False),  # adjacent
        (Stretch("a", 0, 4), False),
        (Stretch("a", 0, 4.1), True),
        (Stretch("b", 4, 8), False),
    ],
)
def test_stretches_of_one_recording_overlap_if_they_share_time(other: Stretch, expected: bool) -> None:
    assert Stretch("a", 4, 8).overlaps(other) is other.overlaps(Stretch("a", 4, 8)) is expected


def test_a_stretch_is_widened_at_both_ends_and_never_narrowed() -> None:
    assert Stretch("a", 4, 8).widened(3) == Stretch("a", 1, 11)
    assert Stretch("a", 4, 8).widened(-3) == Stretch("a", 4, 8)


@given(stretches=st.lists(STRETCH, max_size=12), seed=st.integers(0, 99))
def test_finds_the_same_overlaps_as_a_comparison_of_all_pairs(stretches: list[Stretch | None], seed: int) -> None:
    chosen = np.random.default_rng(seed).random(len(stretches)) < 0.3
    picked = [one for one, is_chosen in zip(stretches, chosen, strict=True) if is_chosen and one]
    expected = [
        one is not None and not is_chosen and any(one.overlaps(other) for other in picked)
        for one, is_chosen in zip(stretches, chosen, strict=True)
    ]
    assert overlapping(stretches, chosen).tolist() == expected
