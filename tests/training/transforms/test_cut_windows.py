"""Windows of samples by hand: their starts, which are usable, and how missing samples are filled."""

import numpy as np
import pytest

from lookalike.training.transforms import WindowTransform
from lookalike.training.transforms.cut_windows import cut, filled, start_text, starts_of, usable

NAN = np.nan


def transform(window: int = 4, hop: int = 2, **fields: object) -> WindowTransform:
    return WindowTransform(window=window, hop=hop, channels=("a",), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "starts"), [(3, []), (4, [0]), (5, [0]), (6, [0, 2]), (9, [0, 2, 4])], ids=lambda value: str(value)
)
def test_a_window_starts_every_hop_as_long_as_it_fits(count: int, starts: list[int]) -> None:
    assert starts_of(count, transform()).tolist() == starts


def test_cut_copies_the_windows() -> None:
    samples = np.array([[0, 10], [1, 11], [2, 12], [3, 13]], np.float32)
    windows = cut(samples, np.array([0, 2]), 2)
    assert windows.tolist() == [[[0, 10], [1, 11]], [[2, 12], [3, 13]]]
    assert windows.dtype == np.float32
    assert windows.flags.c_contiguous


@pytest.mark.parametrize(("share", "expected"), [(0.0, [False, True]), (0.25, [True, True]), (0.24, [False, True])])
def test_a_window_is_usable_up_to_a_share_of_missing_samples(share: float, expected: list[bool]) -> None:
    samples = np.array([[1], [NAN], [3], [4], [5], [6]])
    found = usable(samples, np.array([0, 2]), transform(max_missing=share))
    assert found.tolist() == expected


def test_the_channel_with_most_missing_samples_decides() -> None:
    two = WindowTransform(window=4, hop=4, channels=("a", "b"), max_missing=0.3)
    samples = np.array([[1, NAN], [2, NAN], [3, 3], [4, 4]])  # a quarter of all values, half of channel b
    assert usable(samples, np.array([0]), two).tolist() == [False]


def test_missing_samples_are_interpolated_inside_the_window_and_repeated_at_its_ends() -> None:
    window = np.array([[[NAN, 1], [2, 1], [NAN, 1], [NAN, 1], [8, 1], [NAN, NAN]]])
    assert filled(window)[0].T.tolist() == [[2, 2, 4, 6, 8, 8], [1, 1, 1, 1, 1, 1]]


def test_filling_twice_changes_nothing() -> None:
    once = filled(np.array([[[1.0], [NAN], [3.5]]]))
    assert filled(once.copy()).tolist() == once.tolist()


@pytest.mark.parametrize(
    ("start", "rate", "text"),
    [
        (12.8, 50.0, "12.8"),
        (0.0, 50.0, "0"),
        (100.0, 50.0, "100"),
        (0.1 + 0.2, 50.0, "0.3"),
        (0.000005208, 192_000.0, "0.000005208"),
        (64, None, "64"),
        (600, None, "600"),
        ("2026-03-31T01:30:00.500000Z", 50.0, "2026-03-31T01:30:00.500000Z"),
    ],
)
def test_a_start_is_shown_as_the_shortest_text(start: float | str, rate: float | None, text: str) -> None:
    assert start_text(start, rate) == text
