"""Read a photo, and turn it into the pixels that an encoder reads: the same for a file and for a request.

A photo is upright (its EXIF orientation is applied), in sRGB, and has one of four modes: L, RGB, RGBA, or F for grey
pixels of more than 8 bits. In all modes, 0 is black and 255 is white:

- 16 bits: 65,535 is white; each value is divided by 257. Pillow reads only the upper 8 bits of each channel of a color
  photo with 16 bits. The color profile of a grey photo with 16 bits has no effect.
- Floating point: 1 is white. A photo with a value outside 0 to 1 is refused, because its white is unknown.

If all values are whole numbers after this scaling, the photo is a copy of an 8-bit photo, and becomes mode L.
"""

import io
import warnings
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from lookalike.training.array_types import Floats
from lookalike.training.errors import DataError
from lookalike.training.transforms.image import ImageTransform

__all__ = ["MAX_PIXELS", "PREVIEW", "open_photo", "preview", "to_pixels"]

MAX_PIXELS = 89_478_485
"""The most pixels of a photo. Pillow warns above this number, which takes 358 MB as RGB."""
MAX_SIDE = 65_535
"""The longest side of a photo. This is JPEG's limit; in a longer photo of one pixel's width, Pillow takes several times
as much memory for each pixel."""
PREVIEW = 96
"""The longest side of a preview, in pixels."""
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the value of EXIF's tag Orientation: how to make the photo upright (Exif 2.32, 4.6.4)."""
_ORIENTATION = 0x0112
_FILTER = Image.Resampling.BILINEAR
"""Pillow widens this triangle to the scale of the reduction (antialiasing). Its results stay in the range of the
pixels."""
_MOST_PROFILE = 4 << 20
"""A color profile of more bytes is ignored; common profiles have 500 bytes to 2 MB."""
_WHOLE = 1e-4
"""A value this near to a whole number is that number, rounded by float32; the next value of 16 bits is 1 / 257 away."""
warnings.filterwarnings("ignore", module=r"PIL\.")  # Pillow warns of slight damage; a photo is read, or is an error


def open_photo(
    source: Path | bytes, name: str, transform: ImageTransform | None = None, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Return the first frame of a photo: upright, in sRGB, of mode L, RGB, RGBA or F (see the module).

    `photo.info["size"]` is the (width, height) of the upright photo in the file. With `transform`, a JPEG file is
    decoded at 1/2, 1/4 or 1/8 of its size if its shorter side then still has twice the pixels of the longest side of
    the transform, and of a preview. This changes the pixels of `to_pixels` only as another resampling filter would.

    Args:
        source: a file, or the content of a file. The first bytes decide on the format, not the name.
        name: the photo's name, for errors.
        max_pixels: a photo with more pixels is refused before it is decoded.

    Raises:
        DataError: the photo is not in a known format, is damaged, has too many pixels, or is a HEIC photo and the extra
            `images` is not installed.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            photo, size = _decoded(stream, name, transform, max_pixels)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # on damaged files, Pillow's readers raise errors of many kinds
        known = error.strerror if isinstance(error, OSError) else None
        found = known or str(error) or type(error).__name__
        raise DataError(name, expected="a readable photo", found=found) from error
    photo.info = {"size": size}
    return photo


def to_pixels(photo: Image.Image, transform: ImageTransform) -> Floats:
    """Return the pixels of a photo, (height, width) or (height, width, 3), float32 from 0 to 255.

    Transparent pixels are put on the background before the photo is resized, so that their hidden colors do not
    matter. Photos of 8 bits are resized in 8 bits, as Pillow does; photos of mode F are not rounded.

    Args:
        photo: as `open_photo` returns it.
    """
    mode = "L" if transform.mode == "grey" else "RGB"
    if photo.mode == "RGBA":
        opaque = Image.new("RGB", photo.size, transform.background)
        opaque.paste(photo, mask=photo.getchannel("A"))
        photo = opaque
    if photo.mode == "RGB" and mode == "L":
        photo = photo.convert("L")
    inner: Floats = np.asarray(_fitted(photo, transform), np.float32)
    if mode == "RGB":
        inner = np.broadcast_to(inner.reshape(*inner.shape[:2], -1), (*inner.shape[:2], 3))
    color = np.asarray(Image.new("RGB", (1, 1), transform.background).convert(mode))[0, 0]  # () or (3,)
    pixels = np.empty(transform.shape, np.float32)
    pixels[:] = color
    top, left = (transform.height - inner.shape[0]) // 2, (transform.width - inner.shape[1]) // 2
    pixels[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return pixels


def preview(photo: Image.Image) -> bytes:
    """Return a small WebP picture of a photo; its longest side has at most `PREVIEW` pixels."""
    small = photo.convert("L") if photo.mode == "F" else photo.copy()
    small.thumbnail((PREVIEW, PREVIEW), Image.Resampling.BICUBIC)
    target = io.BytesIO()
    small.save(target, "WEBP", quality=80)
    return target.getvalue()


def _fitted(photo: Image.Image, transform: ImageTransform) -> Image.Image:
    """Return a photo resized to the size of the transform, or, with `pad`, to fit into this size."""
    size = (transform.width, transform.height)
    if photo.size == size:
        return photo
    if transform.fit == "crop":
        return ImageOps.fit(photo, size, method=_FILTER)
    if transform.fit == "pad":
        scale = min(size[0] / photo.width, size[1] / photo.height)
        size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.resize(size, _FILTER)


def _decoded(
    stream: IO[bytes], name: str, transform: ImageTransform | None, max_pixels: int
) -> tuple[Image.Image, tuple[int, int]]:
    """Return a photo, and the (width, height) that it has in the file."""
    heif = _heif_is_installed()
    try:
        image = Image.open(stream, formats=(*_FORMATS, "HEIF") if heif else _FORMATS)
    except UnidentifiedImageError as error:
        stream.seek(0)
        raise _unknown(stream.read(12), name, heif=heif) from error
    except Image.DecompressionBombError as error:  # twice `MAX_PIXELS`
        raise _too_large(name, max_pixels, str(error).rstrip(".")) from error
    size = image.size
    if size[0] * size[1] > max_pixels:
        raise _too_large(name, max_pixels, f"{size[0]:,} x {size[1]:,}")
    if max(size) > MAX_SIDE:
        found, remedy = f"{size[0]:,} x {size[1]:,}", "Reduce the photo first."
        raise DataError(name, f"a photo of at most {MAX_SIDE:,} pixels on each side", found, remedy=remedy)
    if transform is not None and image.format in {"JPEG", "MPO"}:
        kept = 2 * max(transform.height, transform.width, PREVIEW)
        image.draft(None, (min(size[0], kept), min(size[1], kept)))
    image.load()
    turn = _TURNS.get(orientation := _orientation(image))
    photo = _in_srgb(image, name)
    return (photo, size) if turn is None else (photo.transpose(turn), size if orientation < 5 else size[::-1])


def _too_large(name: str, most: int, found: str) -> DataError:
    return DataError(name, f"a photo of at most {most:,} pixels", found, remedy="Reduce the photo first.")


def _orientation(image: Image.Image) -> int:
    """Return the value of EXIF's tag Orientation; 1, upright, if there is none or if EXIF's data is damaged.

    The decoders of HEIC and TIFF have turned the photo already, and report 1. A HEIC file has a field for the rotation,
    so EXIF's tag has no effect in it (MIAF, ISO/IEC 23000-22).
    """
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow parses the data at this point, and its errors are of many kinds
        return 1


def _in_srgb(image: Image.Image, name: str) -> Image.Image:
    """Return a decoded image in mode L, RGB, RGBA or F."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_wide(np.asarray(image), name))
    profile, grey = image.info.get("icc_profile"), image.mode in {"1", "L", "LA"}
    if image.has_transparency_data:
        layers, mode = image.convert("RGBA"), "L" if grey else "RGB"
        if (to_srgb := _to_srgb(profile, mode)) is None:
            return layers
        colors = to_srgb.apply(layers.convert(mode))
        colors.putalpha(layers.getchannel("A"))
        return colors
    mode = "L" if grey else "CMYK" if image.mode == "CMYK" else "RGB"
    plain = image if image.mode == mode else image.convert(mode)
    if (to_srgb := _to_srgb(profile, mode)) is not None:
        plain = to_srgb.apply(plain)
    target = "L" if grey else "RGB"
    return plain if plain.mode == target else plain.convert(target)


def _wide(values: NDArray[Any], name: str) -> NDArray[np.uint8] | Floats:
    """Return values of 16 bits or of floating point from 0 to 255: uint8 if all are whole numbers, else float32."""
    most = 1 if values.dtype.kind == "f" else 65_535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= most):  # also refuses NaN
        found = f"values from {low} to {high}"
        raise DataError(name, f"values from 0 to {most:,}", found, remedy="Scale the photo to this range first.")
    scaled = values.astype(np.float32)
    scaled = scaled * np.float32(255) if most == 1 else scaled / np.float32(257)
    whole = np.rint(scaled)
    return whole.astype(np.uint8) if (np.abs(scaled - whole) < _WHOLE).all() else scaled


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion of an embedded profile to sRGB; None if there is nothing to convert.

    A profile has no effect if it is damaged, very large, or for another mode. Threads can share a conversion, because
    the flag NOCACHE turns off its cache of the last pixel.
    """
    if not profile or len(profile) > _MOST_PROFILE:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in (source.profile.profile_description or "").lower():
            return None
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.NOCACHE
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@cache
def _heif_is_installed() -> bool:
    """Let Pillow read HEIC photos, if the extra `images` is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _unknown(head: bytes, name: str, *, heif: bool) -> DataError:
    if not head:
        return DataError(name, expected="a photo", found="an empty file")
    if not heif and head[4:8] == b"ftyp":
        remedy = "Run `pip install 'lookalike[images]'`."
        return DataError(name, "the package pillow-heif, to read a HEIC photo", found="no such package", remedy=remedy)
    if head.startswith(_HEADS):
        return DataError(name, expected="a readable photo", found="a damaged file")
    expected = f"a photo ({', '.join(_FORMATS)} or HEIC)"
    return DataError(name, expected, found=f"a file of another type, which begins with {head[:8]!r}")
