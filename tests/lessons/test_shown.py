"""Numbers as they are told."""

from lookalike.lessons.shown import number_lines


def test_numbers_are_told_in_order_and_in_one_column() -> None:
    told = number_lines({"rows": 1437.0, "error": 0.018123, "tiny": 2.776e-17, "share": 1.0})
    assert told == ["    1,437  rows", "  0.01812  error", "2.776e-17  tiny", "        1  share"]


def test_no_numbers() -> None:
    assert number_lines({}) == []
