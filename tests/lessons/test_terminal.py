"""Text that shows the same as the file, within the width."""

from collections.abc import Callable

import numpy as np
import pytest

from lookalike.lessons.catalogue import topics
from lookalike.lessons.picture import Curves, Tiles
from lookalike.lessons.shown import Shown
from lookalike.lessons.terminal import as_text
from tests.lessons.pictures import CURVES, EMPTY, PANELS, PICTURES, SCATTER, TILES


def braille(text: str) -> int:
    return sum("\u2800" < letter <= "\u28ff" for letter in text)


@pytest.mark.parametrize("kind", PICTURES)
def test_each_kind_is_drawn_within_the_width(kind: str) -> None:
    text = as_text(PICTURES[kind], width=60)
    assert text.startswith(PICTURES[kind].title)
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("topic", topics())
def test_each_lesson_is_drawn(topic: str, shown: Callable[[str], Shown]) -> None:
    text = as_text(shown(topic).picture)
    assert len(text.splitlines()) > 10
    assert max(map(len, text.splitlines())) <= 80
    assert sum(not letter.isspace() for letter in text) > 300


def test_curves_have_names_axes_and_letters() -> None:
    lines = as_text(CURVES, width=60, height=12).splitlines()
    assert lines[:2] == ["Two lines", "cost:"]
    assert lines[2].startswith("        100 │")
    assert lines[13].startswith("          1 │")
    assert [line.strip() for line in lines[-4:]] == ["rate", "A falling", "B lost", "| here: 0.1"]
    assert lines[-5].split() == ["0.01", "0.1", "1"]
    assert braille("\n".join(lines)) > 30


def test_a_straight_line_is_drawn_straight() -> None:
    body = as_text(Curves("t", "x", "y", {"a": ([0.0, 1.0], [0.0, 1.0])}), width=33, height=10).splitlines()[2:12]
    firsts = [next(place for place, letter in enumerate(line[13:]) if letter != " ") for line in body]
    assert firsts == sorted(firsts, reverse=True)
    assert (firsts[0], firsts[-1]) == (18, 0)


def test_a_picture_without_values_is_drawn_empty() -> None:
    assert braille(as_text(EMPTY)) == 0


def test_points_are_drawn_as_their_classes() -> None:
    lines = as_text(SCATTER, width=40, height=8).splitlines()
    assert "8" in lines[2]  # the highest
    assert lines[9].split("│")[1].startswith("7")  # the lowest, at the left
    assert sum(line.split("│")[-1].count("7") for line in lines[2:10]) == 2


def test_of_many_images_the_first_and_the_last_are_drawn() -> None:
    text = as_text(TILES, width=40)  # 10 characters each
    assert text.splitlines()[-1].split() == ["0", "3", "6", "9"]
    assert text.splitlines()[2] == ("██" + " " * 8) * 3 + "██"


def test_shades_range_from_empty_to_full() -> None:
    gray = np.array([[[0.0, 0.25, 0.5, 0.75, 1.0, 2.0]]], np.float32)
    assert as_text(Tiles("t", {"row": gray})).splitlines()[-1] == "  ░░▒▒▓▓████"


def test_panels_are_below_each_other() -> None:
    text = as_text(PANELS, width=60)
    places = [text.index(title) for title in ("All of them", "Two lines", "Points", "Images")]
    assert places == sorted(places)


def test_text_has_no_color_codes() -> None:
    assert "\x1b" not in as_text(PANELS)
