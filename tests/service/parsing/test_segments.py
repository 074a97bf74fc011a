"""Segments of recordings as windows, by hand; wrong segments are named."""

from typing import Any

import numpy as np
import pytest

from lookalike.service.errors import RequestError, TooLargeError
from lookalike.service.parsing.segments import Segments, SegmentWindow, cut_segments, filled_windows, window_items
from lookalike.training.transforms import WindowTransform

AT = "inputs[{}]"


def transform(channels: int = 1, **fields: Any) -> WindowTransform:
    given: dict[str, Any] = {"window": 3, "hop": 2, "channels": tuple("abcd"[:channels]), "max_missing": 0.4} | fields
    return WindowTransform(**given)


def test_nested_and_flat_segments_of_several_channels() -> None:
    nested = [[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]]
    found = cut_segments([nested, [7, 70, 8, 80, 9, 90]], transform(2), 9, AT)
    assert found.rows.tolist() == [[1, 10, 2, 20, 3, 30], [3, 30, 4, 40, 5, 50], [7, 70, 8, 80, 9, 90]]
    assert found.windows == (
        SegmentWindow(0, 0, 3, is_whole=False),
        SegmentWindow(0, 2, 5, is_whole=False),
        SegmentWindow(1, 0, 3, is_whole=True),
    )
    assert found.described == found.windows


def test_a_flat_segment_of_one_channel_may_be_longer_than_a_window() -> None:
    assert cut_segments([[1, 2, 3, 4, 5, 6]], transform(), 9, AT).rows.tolist() == [[1, 2, 3], [3, 4, 5]]
    assert cut_segments(np.arange(12.0).reshape(2, 6), transform(hop=3), 9, AT).rows.tolist() == [
        *([0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]),
    ]


def test_segments_of_the_windows_length_need_no_description() -> None:
    found = cut_segments([[1, 2, 3], [[4], [5], [6]]], transform(rate=10.0), 9, AT)
    assert found.described == ()
    assert [window.end for window in found.windows] == [0.3, 0.3]


def test_missing_samples_are_filled_and_windows_with_many_of_them_left_out() -> None:
    found = cut_segments([[1, None, 3, None, None, 6, 7]], transform(rate=2.0), 9, AT)
    assert found.rows.tolist() == [[1, 2, 3], [6, 6, 7]]  # the window 3, None, None misses two of three
    assert [window.start for window in found.windows] == [0, 2]
    more = cut_segments([[1, None, 3, None, None, 6, 7]], transform(rate=2.0, max_missing=0.7), 9, AT)
    assert more.rows.tolist() == [[1, 2, 3], [3, 3, 3], [6, 6, 7]]
    assert [window.start for window in more.windows] == [0, 1, 2]


def test_a_segment_without_a_usable_window_is_refused() -> None:
    with pytest.raises(RequestError, match=r"inputs\[1\]: expected a window with at most 40% of missing values"):
        cut_segments([[1, 2, 3], [1, None, None, 2]], transform(), 9, AT)


def test_windows_are_counted_before_they_are_cut() -> None:
    with pytest.raises(
        TooLargeError, match="inputs: expected at most 3 windows in a call, found segments of 4 windows"
    ):
        cut_segments([[1] * 5, [1] * 5], transform(), 3, AT)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ([1, 2], "expected a list of 3 samples or more"),
        ([], "expected a list of 3 samples or more"),
        ("abc", "expected a list of 3 samples or more"),
        ({"a": 1}, "expected a list of 3 samples or more"),
        ([[1], [2], [3, 4]], "expected a list of 3 samples or more"),
        ([[1], 2, [3]], "expected a list of 3 samples or more"),
        ([1, 2, [3]], r"expected numbers or null, found a list of 1 at value 2"),
        ([1, 2, True], r"expected numbers or null, found true at value 2"),
        ([1, 2, 10**400], "expected finite numbers that fit float32"),
        ([1, 2, 1e39], "expected finite numbers that fit float32"),
    ],
    ids=range(10),
)
def test_wrong_segments(segment: Any, message: str) -> None:
    with pytest.raises(RequestError, match=r"inputs\[0\]: " + message):
        cut_segments([segment], transform(), 9, AT)


def test_a_flat_segment_of_several_channels_has_the_windows_length() -> None:
    with pytest.raises(RequestError, match=r"or 6 numbers, sample after sample, found a list of 8"):
        cut_segments([[1, 2, 3, 4, 5, 6, 7, 8]], transform(2), 9, AT)


def test_windows_of_an_array_are_filled() -> None:
    rows = np.array([[1, np.nan, 3], [4, 5, 6]], np.float32)
    assert filled_windows(rows, transform(), AT).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.isnan(rows[0, 1])  # the request's own array is unchanged
    whole = np.array([[1, 2, 3]], np.int32)
    assert filled_windows(whole, transform(), AT) is whole
    with pytest.raises(RequestError, match=r"inputs\[1\]"):
        filled_windows(np.array([[1, 2, 3], [np.nan, np.nan, 1]]), transform(), AT)


def test_ids_and_payloads_of_windows() -> None:
    segments = Segments(
        np.zeros((3, 3)),
        (
            SegmentWindow(0, 0.5, 2.0, is_whole=False),
            SegmentWindow(1, 0.0, 1.5, is_whole=False),
            SegmentWindow(2, 0.0, 1.5, is_whole=True),
        ),
    )
    payloads: list[dict[str, Any]] = [{"x": 1}, {"recording": "r", "start": 9}, {"start": 9}]
    ids, fields = window_items(["a", "b", "c"], payloads, segments, transform(rate=2.0))
    assert ids == ["a@0.5", "b@0", "c"]
    assert fields == [
        {"recording": "a", "x": 1, "start": 0.5, "end": 2.0},
        {"recording": "r", "start": 0.0, "end": 1.5},
        {"start": 9},
    ]
