"""Draws a picture as a PNG file, without a window or global state: it works in a container and in a thread.

The colors are those of M. Okabe and K. Ito, which people with any kind of color vision can distinguish. The lines
also differ in their dashes, and the points are drawn as the number of their class.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from lookalike.lessons.picture import Curves, Panels, Part, Picture, Scatter, Series, Tiles
from lookalike.training.array_types import Floats
from lookalike.training.sealed import replacing

__all__ = ["save_png"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D1F", "#7A7A7A", "#5D3A9B")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
FEW = 25
"""A line with at most this many values has a marker at each value."""
SHORT = 100.0
"""A logarithmic axis is short if its greatest value is less than this multiple of its least."""
GAP = 1
"""Pixels between two small images."""


def save_png(picture: Picture, path: Path) -> None:
    """Draw `picture` into the file `path`, which is replaced completely or not at all."""
    parts = picture.parts if isinstance(picture, Panels) else [picture]
    columns = 1 if len(parts) == 1 else 2 if len(parts) in {2, 4} else 3
    rows = math.ceil(len(parts) / columns)
    wide, high = (8.0, 5.0) if columns == 1 else (5.6 * columns, 4.3 * rows)
    figure = Figure(figsize=(wide, high), dpi=120, layout="constrained")
    if isinstance(picture, Panels):
        figure.suptitle(picture.title, fontweight="bold")
    for number, part in enumerate(parts, start=1):
        _draw(figure.add_subplot(rows, columns, number), part)
    with replacing(path, durable=False) as new:
        figure.savefig(new, format="png")


def _draw(axes: Axes, part: Part) -> None:
    axes.set_title(part.title, fontsize=11)
    if isinstance(part, Tiles):
        _tiles(axes, part)
        return
    axes.set_xlabel(part.x_label)
    axes.set_ylabel(part.y_label)
    if isinstance(part, Curves):
        _curves(axes, part)
    else:
        _scatter(axes, part)


def _curves(axes: Axes, part: Curves) -> None:
    axes.set_xscale("log" if part.log_x else "linear")
    axes.set_yscale("log" if part.log_y else "linear")
    _ticks(axes.xaxis, part.log_x, [x for xs, _ in part.series.values() for x in xs])
    _ticks(axes.yaxis, part.log_y, [y for _, ys in part.series.values() for y in ys])
    for number, (name, line) in enumerate(part.series.items()):
        _line(axes, name, line, number)
    for name, place in part.marks.items():
        axes.axvline(place, color="#555555", linewidth=1.0)
        axes.annotate(
            name,
            (place, 0.02),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-3, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            fontsize=8,
        )
    axes.grid(visible=True, alpha=0.3)
    if len(part.series) > 1:
        axes.legend(fontsize=8)


def _ticks(axis: Axis, log: bool, values: list[float]) -> None:
    """Integer ticks if all values are integers; on a short logarithmic axis, also ticks between the powers of ten."""
    if not log:
        axis.set_major_locator(
            MaxNLocator("auto", steps=[1, 2, 5, 10], integer=all(float(value).is_integer() for value in values))
        )
        return
    positive = [value for value in values if math.isfinite(value) and value > 0]
    axis.set_major_formatter("{x:g}")
    if positive and max(positive) / min(positive) < SHORT:
        axis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 5.0)))
        axis.set_minor_formatter("{x:g}")
    else:
        axis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, name: str, line: Series, number: int) -> None:
    xs, ys = (np.asarray(values, float) for values in line)
    axes.plot(
        xs,
        np.where(np.isfinite(ys), ys, np.nan),
        label=name,
        color=COLORS[number % len(COLORS)],
        linestyle=DASHES[number % len(DASHES)],
        linewidth=1.8,
        marker="o" if len(xs) <= FEW else "",
        markersize=3.5,
    )


def _scatter(axes: Axes, part: Scatter) -> None:
    for number in np.unique(part.classes):
        chosen = part.points[part.classes == number]  # (of the class, 2)
        axes.scatter(
            chosen[:, 0], chosen[:, 1], marker=f"${number}$", s=28, linewidths=0.2, color=COLORS[number % len(COLORS)]
        )


def _tiles(axes: Axes, part: Tiles) -> None:
    pictures = list(part.rows.values())
    height, width = pictures[0].shape[1:]
    axes.imshow(np.vstack([_strip(row) for row in pictures]), cmap="gray_r", vmin=0.0, vmax=1.0)
    axes.set_yticks([number * (height + GAP) + height / 2 - 0.5 for number in range(len(pictures))], list(part.rows))
    places = [number * (width + GAP) + width / 2 - 0.5 for number in range(len(part.columns))]
    axes.set_xticks(places, list(part.columns))
    axes.tick_params(length=0, labelsize=9)
    axes.set_frame_on(False)


def _strip(row: Floats) -> Floats:
    """(n, height, width) -> (height + gap, n * (width + gap)), clipped to [0, 1]."""
    padded = np.pad(np.clip(row, 0.0, 1.0), ((0, 0), (0, GAP), (0, GAP)))
    return np.hstack(list(padded))
