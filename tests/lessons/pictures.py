"""One small picture of each kind, for the tests that draw."""

import numpy as np

from lookalike.lessons.picture import Curves, Panels, Picture, Scatter, Tiles

__all__ = ["CURVES", "EMPTY", "PANELS", "PICTURES", "SCATTER", "TILES"]

CURVES = Curves(
    "Two lines",
    "rate",
    "cost",
    {"falling": ([0.01, 0.1, 1.0], [100.0, 10.0, 1.0]), "lost": ([0.01, 0.1, 1.0], [1.0, float("inf"), float("nan")])},
    log_x=True,
    log_y=True,
    marks={"here": 0.1},
)
EMPTY = Curves("Nothing to draw", "x", "y", {"lost": ([1.0, 2.0], [float("nan"), float("nan")])}, log_y=True)
SCATTER = Scatter("Points", "a", "b", np.array([[0, 0], [1, 2], [3, 1]], np.float32), np.array([7, 8, 7]))
TILES = Tiles("Images", {"even": np.tile(np.eye(4, dtype=np.float32), (10, 1, 1))}, [str(n) for n in range(10)])
PANELS = Panels("All of them", [CURVES, SCATTER, TILES])
PICTURES: dict[str, Picture] = {
    "curves": CURVES,
    "empty": EMPTY,
    "scatter": SCATTER,
    "tiles": TILES,
    "panels": PANELS,
}
