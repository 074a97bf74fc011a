"""Read a folder of images of one size; an image's subfolder is its label."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.transforms import InputSpec

__all__ = ["open_images"]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def open_images(folder: Path, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open all images under `folder`, ordered by path, as gray (h, w) or color (h, w, 3) bytes.

    An item's id is the image's path inside the folder. The first image sets the size, and gray or color.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not paths:
        expected = f"a folder with images: {' '.join(sorted(_SUFFIXES))}"
        raise DataError(str(folder), expected=expected, found="no images")
    mode = "L" if _load(paths[0], None).ndim == 2 else "RGB"
    shape = _load(paths[0], mode).shape

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(paths), size):
            part = paths[first : first + size]
            pixels = np.stack([_load_checked(path, mode, shape) for path in part])  # (n, h, w[, 3])
            ids = [str(path.relative_to(folder)) for path in part]
            yield Chunk(ids, pixels.reshape(len(part), -1).astype(np.float32), [_payload(id) for id in ids])

    return Rows(str(folder), shape, len(paths), True, read)


def _payload(name: str) -> dict[str, Any]:
    parents = Path(name).parent
    return {"file": name, "label": str(parents)} if parents.parts else {"file": name}


def _load_checked(path: Path, mode: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    pixels = _load(path, mode)
    if pixels.shape != shape:
        expected, remedy = f"an image of {_size(shape)}, like the first image", "Resize all images to one size first."
        raise DataError(str(path), expected=expected, found=_size(pixels.shape), remedy=remedy)
    return pixels


def _load(path: Path, mode: str | None) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                remedy = "Scale the images to 8 bits first, or keep them in an .npy file."
                raise DataError(str(path), expected="8 bits per channel", found=f"mode {image.mode}", remedy=remedy)
            return np.asarray(image.convert(mode or ("L" if image.mode in {"1", "L", "LA"} else "RGB")))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise DataError(str(path), expected="a readable image", found=str(error)) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
