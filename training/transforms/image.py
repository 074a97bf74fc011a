"""The transform of a photo to a row of pixels."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PHOTO_ENDINGS", "ImageTransform"]

_ENDINGS = "avif bmp gif heic heif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
PHOTO_ENDINGS = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""The endings of the names of photos, in small letters."""

_Side = Annotated[int, Field(ge=1, le=1_024)]


class ImageTransform(BaseModel):
    """How a photo becomes a row of pixels, from 0 (black) to 255; plain JSON in the encoder artifact.

    Attributes:
        height, width: the sides of the picture that the encoder reads, in pixels.
        mode: one channel, or three.
        fit: for a photo of another shape: crop its edges, pad it with the background, or stretch it.
        background: the color, as #rrggbb, under transparent pixels and around a padded photo.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["image"] = "image"
    height: _Side
    width: _Side
    mode: Literal["grey", "rgb"]
    fit: Literal["crop", "pad", "stretch"] = "crop"
    background: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")] = "#ffffff"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row: (height, width), or (height, width, 3)."""
        return (self.height, self.width) if self.mode == "grey" else (self.height, self.width, 3)

    @property
    def line(self) -> str:
        """A line for the user about the pictures that the encoder reads."""
        return f"photos as {self.width} x {self.height} pixels, {self.mode} ({self.fit})"
