"""The text of an experiment's numbers."""

from lookalike.lessons.shown import number_lines


def test_numbers_are_printed_in_order_and_aligned() -> None:
    lines = number_lines({"rows": 1437.0, "error": 0.018123, "tiny": 2.776e-17, "share": 1.0})
    assert lines == ["    1,437  rows", "  0.01812  error", "2.776e-17  tiny", "        1  share"]


def test_no_numbers_have_no_lines() -> None:
    assert number_lines({}) == []
