"""Draws a picture as text, with Braille dots and letters, without colors."""

import math
from collections.abc import Sequence

import numpy as np
from plotille import Canvas

from lookalike.lessons.picture import Curves, Panels, Part, Picture, Scatter, Series, Tiles
from lookalike.training.array_types import Doubles

__all__ = ["as_text"]

MARGIN = 11
"""Characters left of the frame, for the numbers of the y axis."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHADES = " ░▒▓█"
EMPTY = "\N{BRAILLE PATTERN BLANK}"


def as_text(picture: Picture, width: int = 80, height: int = 16) -> str:
    """Draw `picture` in lines of at most about `width` characters; each part's frame is `height` lines high."""
    if not isinstance(picture, Panels):
        return _draw(picture, width, height)
    inner = max(8, height - 2 * min(3, len(picture.parts) - 1))
    return "\n\n".join([picture.title, *(_draw(part, width, inner) for part in picture.parts)])


def _draw(part: Part, width: int, height: int) -> str:
    if isinstance(part, Tiles):
        return _tiles(part, width)
    if isinstance(part, Curves):
        return _curves(part, width - MARGIN - 2, height)
    return _scatter(part, width - MARGIN - 2, height)


def _curves(part: Curves, width: int, height: int) -> str:
    lines = [_drawable(line, part) for line in part.series.values()]
    marks = _scaled(list(part.marks.values()), part.log_x)
    xs = np.concatenate([*(line[0] for line in lines), marks])
    ys = np.concatenate([line[1] for line in lines])
    canvas = _canvas(xs, ys, width, height)
    for place in marks:
        canvas.line(place, canvas.ymin, place, canvas.ymax_inside)
    for x, y in lines:
        for start in range(len(x) - 1):
            canvas.line(x[start], y[start], x[start + 1], y[start + 1])
    for number, (x, y) in enumerate(lines):
        _letters(canvas, x, y, number, len(lines))
    legend = (
        [f"{LETTERS[number % len(LETTERS)]} {name}" for number, name in enumerate(part.series)]
        if len(lines) > 1
        else []
    )
    legend += [f"| {name}: {place:.3g}" for name, place in part.marks.items()]
    return "\n".join([*_framed(part, canvas), *(f"{'':{MARGIN}}  {line}" for line in legend)])


def _drawable(line: Series, part: Curves) -> tuple[Doubles, Doubles]:
    """The points of a line that can be drawn, on the scales of the axes."""
    x, y = _scaled(line[0], part.log_x), _scaled(line[1], part.log_y)
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _scaled(values: Sequence[float], log: bool) -> Doubles:
    plain = np.asarray(values, float)
    return np.log10(np.where(plain > 0, plain, np.nan)) if log else plain


def _canvas(xs: Doubles, ys: Doubles, width: int, height: int) -> Canvas:
    (left, right), (low, high) = _range(xs, 2 * width), _range(ys, 4 * height)  # Braille: 2 by 4 dots a character
    return Canvas(width, height, left, low, right, high)


def _range(values: Doubles, dots: int) -> tuple[float, float]:
    """The range from the least to slightly above the greatest value, which gets the last of the dots; never empty."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    return low, low + (high - low) * dots / (dots - 1)


def _letters(canvas: Canvas, x: Doubles, y: Doubles, number: int, of: int) -> None:
    """Write the letter of a line at some of its points, at other places than the neighboring lines."""
    if of == 1 or not len(x):
        return
    places = np.linspace(x[0], x[-1], 4 * of + 1)[number + 1 :: of]
    for place in {int(np.abs(x - at).argmin()) for at in places}:
        canvas.text(x[place], y[place], LETTERS[number % len(LETTERS)])


def _scatter(part: Scatter, width: int, height: int) -> str:
    points = part.points.astype(float)
    canvas = _canvas(points[:, 0], points[:, 1], width, height)
    for (x, y), number in zip(points, part.classes, strict=True):
        canvas.text(x, y, str(number))
    return "\n".join(_framed(part, canvas))


def _framed(part: Curves | Scatter, canvas: Canvas) -> list[str]:
    """The title, the canvas between its axes, and the numbers along them."""
    log_x, log_y = (part.log_x, part.log_y) if isinstance(part, Curves) else (False, False)
    body = canvas.plot().replace(EMPTY, " ").splitlines()
    rows = np.linspace(canvas.ymax_inside, canvas.ymin, len(body))
    labeled = set(np.linspace(0, len(body) - 1, 4).round())
    left = [_number(value, log_y) if place in labeled else "" for place, value in enumerate(rows)]
    return [
        part.title,
        f"{part.y_label}:",
        *(f"{number:>{MARGIN}} │{line.rstrip()}" for number, line in zip(left, body, strict=True)),
        f"{'':{MARGIN}} └{'─' * canvas.width}",
        _x_numbers(canvas, log_x),
        f"{part.x_label:^{canvas.width + 2 * MARGIN}}".rstrip(),
    ]


def _x_numbers(canvas: Canvas, log: bool) -> str:
    first, middle, last = (_number(at, log) for at in np.linspace(canvas.xmin, canvas.xmax_inside, 3))
    half = canvas.width // 2
    return f"{'':{MARGIN}}  {first:<{half - 4}}{middle:<8}{last:>{canvas.width - half - 4}}"


def _number(value: float, log: bool) -> str:
    plain = 10.0**value if log else value
    return f"{0.0 if math.isclose(plain, 0.0, abs_tol=1e-12) and not log else plain:.3g}"


def _tiles(part: Tiles, width: int) -> str:
    """Draw with two characters per pixel; of more images than fit, an even sample from the first to the last."""
    lines = [part.title]
    first = next(iter(part.rows.values()))
    wide = 2 * (first.shape[2] + 1)
    chosen = np.unique(np.linspace(0, len(first) - 1, max(1, width // wide)).round().astype(int))
    for name, pictures in part.rows.items():
        strip = np.pad(np.clip(pictures[chosen], 0.0, 1.0), ((0, 0), (0, 0), (0, 1)))  # (n, height, width + 1)
        shades = np.rint(strip * (len(SHADES) - 1)).astype(int)
        rows = shades.transpose(1, 0, 2).reshape(first.shape[1], -1)  # (height, n * (width + 1))
        lines += [f"{name}:", *("".join(SHADES[shade] * 2 for shade in row).rstrip() for row in rows)]
    captions = "".join(f"{part.columns[place]:<{wide}}" for place in chosen) if part.columns else ""
    return "\n".join([*lines, captions.rstrip()] if captions else lines)
