"""Photos of a request: paths, bytes, PIL images and arrays become files in base64.

Pillow is imported only to write an array as a PNG file.
"""

import io
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Image", "Images", "base64_image", "base64_images", "check_images", "image_parts"]

_PART_BYTES = 24_000_000
"""The most bytes of photos in one call, unless one photo has more: 32 MB in base64, half of what a service accepts."""


class _PillowImage(Protocol):
    """The parts of PIL.Image.Image that are used."""

    def save(self, fp: Any, format: str | None = None, **options: Any) -> None: ...

    def getexif(self) -> Any: ...


Image = str | os.PathLike[str] | bytes | _PillowImage | NDArray[Any]
"""A path, the bytes of a JPEG, PNG or WebP file, a PIL image, or an array (h, w) or (h, w, 3) of uint8."""
Images = Sequence[Image] | NDArray[Any]


def check_images(images: Images) -> None:
    """Raises ValueError unless this is a sequence of photos."""
    if isinstance(images, str | bytes | os.PathLike) or hasattr(images, "save"):
        raise ValueError(f"images: expected a sequence of photos, found a single {type(images).__name__}")
    for number, image in enumerate(images):
        _check(image, f"images[{number}]")


def image_parts(images: Images, most: int) -> list[slice]:
    """Split photos into parts of at most `most` photos and about _PART_BYTES; at least one part.

    Raises ValueError if a file cannot be read.
    """
    parts, start, size = list[slice](), 0, 0
    for number, image in enumerate(images):
        added = _size(image, f"images[{number}]")
        if number > start and (number - start == most or size + added > _PART_BYTES):
            parts.append(slice(start, number))
            start, size = number, 0
        size += added
    return [*parts, slice(start, len(images))]


def base64_images(images: Images, first: int = 0) -> list[str]:
    """Return photos as files in base64; `first` is the number of the first photo, for errors.

    Raises ValueError if a file cannot be read, or a PIL image cannot be written as PNG.
    """
    return [
        b64encode(_content(image, f"images[{first + number}]")).decode("ascii") for number, image in enumerate(images)
    ]


def base64_image(image: Image) -> str:
    """Return one photo as a file in base64. Raises ValueError if it is no photo, or as `base64_images` does."""
    _check(image, "image")
    return b64encode(_content(image, "image")).decode("ascii")


def _check(image: Image, place: str) -> None:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            found = f"shape {image.shape} of {image.dtype}"
            raise ValueError(f"{place}: expected an array (h, w) or (h, w, 3) of uint8, found {found}")
    elif not isinstance(image, str | bytes | os.PathLike) and not hasattr(image, "save"):
        expected = "a path, bytes, a PIL image or an array"
        raise ValueError(f"{place}: expected {expected}, found {type(image).__name__}")


def _size(image: Image, place: str) -> int:
    """The bytes of a photo; of an array or a PIL image, those of its pixels."""
    if isinstance(image, bytes):
        return len(image)
    if isinstance(image, np.ndarray):
        return image.nbytes
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).stat().st_size
        except OSError as error:
            raise _unreadable(place, error) from error
    width, height = getattr(image, "size", (0, 0))
    return int(3 * width * height)


def _content(image: Image, place: str) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise _unreadable(place, error) from error
    if isinstance(image, np.ndarray):
        from PIL import Image as Pillow

        image = Pillow.fromarray(image)
    target = io.BytesIO()
    try:
        image.save(target, "PNG", exif=image.getexif())  # with the orientation
    except (OSError, ValueError) as error:
        raise ValueError(f"{place}: expected an image that can be written as PNG, found {error}") from error
    return target.getvalue()


def _unreadable(place: str, error: OSError) -> ValueError:
    return ValueError(f"{place}: expected a readable file, found {error.strerror} at {error.filename}")
