"""Pictures that are moved by whole pixels, to measure whether an embedding depends on their place."""

import numpy as np

from lookalike.training.array_types import Floats

__all__ = ["shifted"]


def shifted(
    rows: Floats, shape: tuple[int, ...], *, pixels: int = 1, fill: float | None = None, seed: int = 0
) -> Floats:
    """Return (n, width) pictures, each moved by `pixels` to a random one of the eight sides.

    Args:
        shape: (height, width) of a picture, or with the channels.
        fill: the value that comes in at the edge; None repeats the edge.
    """
    height, width = shape[:2]
    around = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    pictures = rows.reshape(len(rows), height, width, -1)
    padded = np.pad(pictures, around, mode="edge") if fill is None else np.pad(pictures, around, constant_values=fill)
    sides = np.array([(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)])
    down, right = pixels * sides[np.random.default_rng(seed).integers(len(sides), size=len(rows))].T  # (n,) each
    row = down[:, None, None] + np.arange(height)[:, None]  # (n, height, 1)
    column = right[:, None, None] + np.arange(width)  # (n, 1, width)
    moved: Floats = padded[np.arange(len(rows))[:, None, None], row, column]  # (n, h, w, c)
    return np.ascontiguousarray(moved.reshape(rows.shape))
