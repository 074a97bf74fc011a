"""The pictures of an experiment, as values: curves, points, small images, or several of these in panels.

`lessons.png` draws them into a file and `lessons.terminal` as text; both draw any picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lookalike.training.array_types import Floats, Integers

__all__ = ["Curves", "Panels", "Part", "Picture", "Scatter", "Series", "Tiles", "by_epoch"]

Series = tuple[Sequence[float], Sequence[float]]
"""The x values and the y values of one line, of equal length."""


@dataclass(frozen=True)
class Curves:
    """Named lines over one pair of axes.

    Values that are not finite, or not above 0 on a logarithmic axis, are left out. `marks` are named vertical lines.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Series]
    log_x: bool = False
    log_y: bool = False
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scatter:
    """Points (n, 2), each drawn as the number of its class (n,), 0 to 9."""

    title: str
    x_label: str
    y_label: str
    points: Floats
    classes: Integers


@dataclass(frozen=True, eq=False)
class Tiles:
    """Rows of small gray images; each row is (n, height, width) with 0 for empty and 1 for full ink."""

    title: str
    rows: Mapping[str, Floats]
    columns: Sequence[str] = ()
    """A caption for each image of a row; may be empty."""


Part = Curves | Scatter | Tiles


@dataclass(frozen=True)
class Panels:
    """Several pictures under one title."""

    title: str
    parts: Sequence[Part]


Picture = Curves | Scatter | Tiles | Panels


def by_epoch(lines: Mapping[str, Sequence[float]]) -> dict[str, Series]:
    """Lines with the values after epochs 1, 2, 3, ..."""
    return {name: (range(1, len(values) + 1), values) for name, values in lines.items()}
