"""Small random moves of pictures: shift, zoom, rotation and mirror image, all in one resampling."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.config import CorruptionConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.descriptors import SMALLEST_PICTURE

__all__ = ["Moves", "background_of", "moves_for"]

SHIFT, ZOOM, ROTATION = 1 / 16, 0.1, 10.0
FLAT = 0.2
"""If the mean of the border is this near to an end of the range, relative to the range, that end is the background."""


@dataclass(frozen=True)
class Moves:
    """The greatest moves of a picture; each picture draws its own, uniformly.

    Attributes:
        shape: (height, width, channels).
        shift: in pixels, down or up and left or right.
        zoom: the change of size; 0.1 is from 0.9 to 1.1.
        rotation: in degrees, either way.
        flip: the share of pictures that are mirrored.
        base: (features,) added to a preprocessed row for the picture, in which the background has one value.
        background: fills what comes in from outside the picture; None repeats the edge.
    """

    shape: tuple[int, int, int]
    shift: float
    zoom: float
    rotation: float
    flip: float
    base: Tensor
    background: float | None

    def __call__(self, rows: Tensor, generator: Generator) -> Tensor:
        """(n, features) preprocessed -> the same pictures, moved; bilinear between pixels."""
        fill = self.background or 0.0
        pictures = (rows + self.base - fill).reshape(len(rows), *self.shape).permute(0, 3, 1, 2)  # (n, c, h, w)
        mode = "border" if self.background is None else "zeros"
        grid = functional.affine_grid(self._maps(rows, generator), list(pictures.shape), align_corners=False)
        moved = functional.grid_sample(pictures, grid, padding_mode=mode, align_corners=False)
        return moved.permute(0, 2, 3, 1).flatten(1) + fill - self.base  # (n, features)

    def _maps(self, rows: Tensor, generator: Generator) -> Tensor:
        """(n, 2, 3): from the places of the moved picture to those of the original, the sides being from -1 to 1."""
        height, width, _ = self.shape
        draw = torch.rand((5, len(rows)), generator=generator, device=rows.device)
        either = 2 * draw - 1  # (5, n) within [-1, 1)
        angle, scale = either[0] * math.radians(self.rotation), 1 / (1 + either[1] * self.zoom)
        mirror = torch.where(draw[2] < self.flip, -1.0, 1.0)
        cosine, sine = angle.cos() * scale, angle.sin() * scale
        right, down = either[3] * 2 * self.shift / width, either[4] * 2 * self.shift / height
        first = torch.stack([cosine * mirror, -sine * height / width, right], dim=1)  # (n, 3)
        second = torch.stack([sine * mirror * width / height, cosine, down], dim=1)  # (n, 3)
        return torch.stack([first, second], dim=1)


def moves_for(
    config: CorruptionConfig, scaling: Preprocessor, shape: tuple[int, ...], mean: Tensor, *, pixels: bool
) -> Moves | None:
    """Return the configured moves of rows of shape `shape`; None if no row moves.

    `mean`: (features,) of the preprocessed rows. `pixels`: whether all values of a row have one unit; rows of other
    values, or of another shape, are no pictures. For these, and for pictures with a side below 8 pixels, auto is 0.
    Raises ConfigError for moves of rows that are no pictures.
    """
    pictures = pixels and len(shape) in {2, 3} and not scaling.table
    usual = pictures and min(shape[:2]) >= SMALLEST_PICTURE and config.kind != "none"
    automatic = {"shift": max(1.0, max(shape[:2]) * SHIFT), "zoom": ZOOM, "rotation": ROTATION}
    amounts = {
        name: (value if usual else 0.0) if getattr(config, name) == "auto" else float(getattr(config, name))
        for name, value in automatic.items()
    }
    if not any(amounts.values()) and not config.flip:
        return None
    if not pictures:
        name = next((name for name, amount in amounts.items() if amount), "flip")
        expected, found = "0, because the rows are no pictures", f"{amounts.get(name) or config.flip:g}"
        raise ConfigError(f"corruption.{name}", expected=expected, found=found)
    height, width, channels = (*shape, 1)[:3]
    base = scaling.base
    background = background_of(scaling, (mean.to(base.device) + base).reshape(height, width, channels))
    return Moves((height, width, channels), **amounts, flip=config.flip, base=base, background=background)


def background_of(scaling: Preprocessor, mean: Tensor) -> float | None:
    """Return the darkest or the brightest value if the border of the mean picture is near to it, else None.

    `mean`: (height, width, channels) in the unit of preprocessed rows, not centered.
    """
    low, high = float((scaling.low + scaling.base).min()), float((scaling.high + scaling.base).max())
    border = torch.cat([mean[0].flatten(), mean[-1].flatten(), mean[:, 0].flatten(), mean[:, -1].flatten()])
    share = (float(border.mean()) - low) / (high - low) if high > low else 0.5
    return low if share < FLAT else high if share > 1 - FLAT else None
