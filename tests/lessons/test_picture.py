"""Pictures are plain values."""

import dataclasses

import pytest

from lookalike.lessons.picture import Curves, by_epoch


def test_epochs_are_counted_from_one() -> None:
    assert {name: (list(xs), ys) for name, (xs, ys) in by_epoch({"a": [3.0, 2.0, 1.0]}).items()} == {
        "a": ([1, 2, 3], [3.0, 2.0, 1.0])
    }


def test_a_picture_is_immutable() -> None:
    curves = Curves("title", "x", "y", {})
    assert (curves.log_x, curves.log_y, dict(curves.marks)) == (False, False, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        curves.title = "other"  # type: ignore[misc]
