"""A picture is written as a PNG file of the right size that is not blank."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.lessons.catalogue import topics
from lookalike.lessons.picture import Panels
from lookalike.lessons.png import COLORS, save_png
from lookalike.lessons.shown import Shown
from tests.lessons.pictures import CURVES, PICTURES


def ink(path: Path) -> float:
    """The share of the pixels that are not white."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return float((np.asarray(image.convert("L")) < 250).mean())


@pytest.mark.parametrize("kind", PICTURES)
def test_each_kind_is_drawn(kind: str, tmp_path: Path) -> None:
    save_png(PICTURES[kind], tmp_path / "picture.png")
    assert ink(tmp_path / "picture.png") > 0.005


@pytest.mark.parametrize("topic", topics())
def test_each_lesson_is_drawn(topic: str, tmp_path: Path, shown: Callable[[str], Shown]) -> None:
    save_png(shown(topic).picture, tmp_path / "picture.png")
    assert ink(tmp_path / "picture.png") > 0.01


@pytest.mark.parametrize(("parts", "wide", "high"), [(1, 960, 600), (2, 1344, 516), (5, 2016, 1032)])
def test_panels_are_laid_out_in_rows(parts: int, wide: int, high: int, tmp_path: Path) -> None:
    save_png(Panels("many", [CURVES] * parts), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        assert image.size == (wide, high)


def test_drawing_needs_no_global_state(tmp_path: Path) -> None:
    save_png(CURVES, tmp_path / "picture.png")
    assert "matplotlib.pyplot" not in sys.modules


def test_there_is_a_color_for_each_digit() -> None:
    assert len(set(COLORS)) == len(COLORS) == 10
