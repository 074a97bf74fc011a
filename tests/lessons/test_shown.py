"""The text of an experiment's numbers."""

from lookalike.lessons.picture import Tiles
from lookalike.lessons.shown import mean_of_runs, number_lines


def test_numbers_are_printed_in_order_and_aligned() -> None:
    lines = number_lines({"rows": 1437.0, "error": 0.018123, "tiny": 2.776e-17, "share": 1.0})
    assert lines == ["    1,437  rows", "  0.01812  error", "2.776e-17  tiny", "        1  share"]


def test_no_numbers_have_no_lines() -> None:
    assert number_lines({}) == []


def test_the_mean_of_runs_is_over_different_seeds_with_the_first_picture() -> None:
    pictures = {seed: Tiles(f"picture of {seed}", {}) for seed in range(6, 9)}
    shown = mean_of_runs(lambda seed: ({"twice the seed": 2.0 * seed}, pictures[seed]), 3, seed=2)
    assert shown.numbers == {"twice the seed": 14.0}  # the seeds 6, 7 and 8
    assert shown.picture is pictures[6]
