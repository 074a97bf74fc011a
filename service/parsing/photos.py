"""The photos of a request: a body that is one photo, the files of a form, or base64 in JSON.

Photos are decoded in a thread (service.serving.photo_reader), because each takes milliseconds. The first bytes of a
photo decide on its format, because forms and JSON often do not name the format.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.service.errors import RequestError, TooLargeError
from lookalike.service.parsing.bodies import Body
from lookalike.service.parsing.multipart import Part
from lookalike.service.parsing.rows import RequestLimits, check_count, check_memory
from lookalike.training.array_types import Floats
from lookalike.training.errors import DataError
from lookalike.training.transforms import ImageTransform

__all__ = ["Photo", "PhotoRows", "check_photos", "decode_photos", "file_photos", "photos_of_json"]

_EXPECTED = "a JPEG, PNG or WebP photo"
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "an AVIF file"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC file"),
}
_SHOWN = 64
"""Characters of a file's name in an error."""


@dataclass(frozen=True)
class Photo:
    """A photo that is not decoded yet.

    Attributes:
        field: the photo's place in the request, for errors.
        content: the bytes of the file, or these bytes in base64.
    """

    field: str
    content: Body | str


@dataclass(frozen=True)
class PhotoRows:
    """Decoded photos: raw rows (n, width) float32, and n previews as WebP files if the caller wanted previews."""

    rows: Floats
    previews: list[bytes]


def file_photos(files: Sequence[Part], limits: RequestLimits) -> list[Photo]:
    """Return the files of a form as photos; an error names the file's number and its name."""
    check_photos(len(files), "files", limits)
    return [Photo(f"files[{number}] {_shown(part.file)}", part.content) for number, part in enumerate(files)]


def photos_of_json(texts: Sequence[str], at: str, limits: RequestLimits) -> list[Photo]:
    """Return photos in base64; `at` is the field of photo {}."""
    check_photos(len(texts), at.partition("[")[0], limits)
    return [Photo(at.format(number), text) for number, text in enumerate(texts)]


def check_photos(count: int, name: str, limits: RequestLimits) -> None:
    """Check that a call may have `count` photos.

    Raises:
        RequestError: there is no photo, or the version has no encoder, or its encoder was not trained on photos.
        TooLargeError: there are too many photos for a call, or for the memory.
    """
    remedy = "A search accepts `embeddings` or `ids`, and an item has an `embedding`."
    limits.check_embeds(name, remedy, found="a photo")
    if limits.photo is None:
        shape = ", ".join(map(str, limits.input_shape))
        rows = f"rows of {len(limits.table.columns)} columns" if limits.table else f"rows of shape ({shape})"
        raise RequestError(name, expected=f"{rows}: this version's encoder was not trained on photos", found="a photo")
    if not count:
        raise RequestError(name, expected="at least one photo", found="no photo")
    check_count(count, name, limits)
    check_memory(count, name, limits)


def decode_photos(
    photos: Sequence[Photo], limits: RequestLimits, check: Callable[[], None], *, previews: bool = False
) -> PhotoRows:
    """Decode photos one after the other.

    `check` is called before each photo, and may raise an error to stop the work. Raises RequestError or TooLargeError,
    which names the photo.
    """
    transform, rows, small = limits.photo, list[Floats](), list[bytes]()
    if transform is None:
        raise TypeError("photos for an encoder of other rows: check_photos was not called")
    for photo in photos:
        check()
        row, picture = _decode(photo, transform, limits.max_pixels, preview=previews)
        rows.append(row)
        small.append(picture)
    return PhotoRows(np.stack(rows), small if previews else [])


def _decode(photo: Photo, transform: ImageTransform, max_pixels: int, *, preview: bool) -> tuple[Floats, bytes]:
    """Return the row of a photo, (width,) float32, and the photo's preview, or no bytes without `preview`."""
    from lookalike.training.transforms import photos  # loads Pillow

    content = _from_base64(photo.content, photo.field) if isinstance(photo.content, str) else bytes(photo.content)
    if not _is_known(content):
        raise RequestError(
            photo.field, expected=_EXPECTED, found=_kind(content), remedy="Save the photo as one of these."
        )
    try:
        opened = photos.open_photo(content, photo.field, transform, max_pixels=max_pixels)
        row = photos.to_pixels(opened, transform).reshape(-1)
        return row, photos.preview(opened) if preview else b""
    except DataError as error:
        raise RequestError(photo.field, error.expected, error.found, error.remedy) from error
    except MemoryError as error:
        raise TooLargeError(photo.field, expected="a photo that fits the memory", found="a larger photo") from error


def _from_base64(text: str, place: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        expected = f"{_EXPECTED} in base64, without a prefix and without line breaks"
        raise RequestError(place, expected=expected, found=str(error)[:80]) from error


def _is_known(content: bytes) -> bool:
    """Whether a file begins as a JPEG, PNG or WebP file does: a request may not choose Pillow's other readers."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return is_webp or content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def _kind(content: bytes) -> str:
    """Return the kind of a file that is refused. HEIC and AVIF files have their brand after `ftyp`."""
    if content[4:8] == b"ftyp" and (brand := content[8:12]) in _BRANDS:
        return _BRANDS[brand]
    return f"a file that begins with {content[:8]!r}" if content else "an empty file"


def _shown(name: str | None) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in (name or "")[:_SHOWN])
