"""Read a folder of photos of any size, shape and kind; a photo's subfolder is its label.

Each photo is checked once when the folder is opened (`training.rows.image_files`), so that every later pass reads the
same photos. Threads decode a few photos ahead; memory does not grow with the number of photos.
"""

import math
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.training.array_types import Floats
from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.parallel import map_in_order
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.image_files import Photos, check_folder, photo_id, threads
from lookalike.training.transforms import ImageTransform, InputSpec
from lookalike.training.transforms.image import PHOTO_ENDINGS
from lookalike.training.transforms.photos import open_photo, preview, to_pixels

__all__ = ["open_images", "open_photo_file"]

AUTO_SIDE = 32
"""The longest side of the pictures if `data.image_size` is auto."""
AUTO_SHARE, AUTO_FILES = 0.01, 5
"""If `data.max_unreadable` is auto, this share of the photos may be unreadable, or this number if that is more."""
NAMED, IN_ERROR = 20, 5
"""The most reasons that the notes and an error list, and the most skipped files that they name for each reason."""


def open_images(folder: Path, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open all photos under `folder`, ordered by path, as pixels (h, w) or (h, w, 3) from 0 to 255.

    An item's id is the photo's path inside the folder. `settings` and `spec` as in `open_rows`.

    Raises DataError if no photo can be read, or if more photos than `data.max_unreadable` allows cannot be read.
    """
    return _rows(str(folder), check_folder(folder), settings, spec)


def open_photo_file(path: Path, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open one photo as one row, as an encoder of photos reads it.

    Raises DataError if the photo cannot be read, or if there is no encoder of photos: training needs more than one row.
    """
    if spec is None or not isinstance(spec.transform, ImageTransform):
        found = "a single photo" if spec is None else "a photo, but the encoder reads other rows"
        raise DataError(str(path), "a folder of photos", found, remedy="Name the folder that contains the photos.")
    size = open_photo(path, str(path), spec.transform).info["size"]
    photos = Photos(path.parent, [path.name], np.array([size]), False, [], [], [])
    return _photo_rows(str(path), photos, spec.transform, None)


def _rows(name: str, photos: Photos, settings: DataConfig, spec: InputSpec | None) -> Rows:
    _check_skipped(photos, settings)
    transform = spec.transform if spec else None
    if isinstance(transform, ImageTransform):
        return _photo_rows(name, photos, transform, None)
    chosen = None if spec else settings
    return _photo_rows(name, photos, _choose(photos, settings), chosen)


def _photo_rows(name: str, photos: Photos, transform: ImageTransform, settings: DataConfig | None) -> Rows:
    def reopen(settings: DataConfig, spec: InputSpec | None) -> Rows:
        return _rows(name, photos, settings, spec)

    return Rows(
        name,
        transform.shape,
        len(photos.names),
        True,
        partial(_read, photos, transform, previews=False),
        transform=transform,
        settings=settings,
        reopen=reopen,
        notes=tuple(_notes(photos)),
        read_with_previews=partial(_read, photos, transform, previews=True),
        skipped=tuple((file.name, file.reason) for file in photos.skipped),
    )


def _choose(photos: Photos, settings: DataConfig) -> ImageTransform:
    """Return the transform for the settings; `auto` is resolved from the photos."""
    mode = settings.image_mode if settings.image_mode != "auto" else "rgb" if photos.colored else "grey"
    if settings.image_size == "auto":
        width, height = _auto_size(photos)
    elif isinstance(settings.image_size, int):
        width = height = settings.image_size
    else:
        height, width = settings.image_size
    fit, background = settings.image_fit, settings.image_background
    return ImageTransform(height=height, width=width, mode=mode, fit=fit, background=background)


def _auto_size(photos: Photos) -> tuple[int, int]:
    """Return the common (width, height) of the photos, or a square if they differ or are larger than `AUTO_SIDE`."""
    width, height = (int(side) for side in photos.sizes[0])
    if (photos.sizes == photos.sizes[0]).all() and max(width, height) <= AUTO_SIDE:
        return width, height
    side = min(AUTO_SIDE, int(np.median(photos.sizes.min(axis=1))))
    return side, side


def _read(photos: Photos, transform: ImageTransform, size: int, *, previews: bool) -> Iterator[Chunk]:
    step = partial(_load, photos.folder, transform, previews=previews)
    with closing(map_in_order(step, iter(photos.names), threads())) as loaded:
        for first in range(0, len(photos.names), size):
            names = photos.names[first : first + size]
            inputs = np.empty((len(names), *transform.shape), np.float32)
            small: list[bytes] = []
            for place, (pixels, picture) in enumerate(islice(loaded, len(names))):
                inputs[place] = pixels
                small += picture
            ids = [photo_id(name) for name in names]
            payloads = [_payload(*each) for each in zip(ids, photos.sizes[first : first + size].tolist(), strict=True)]
            yield Chunk(ids, inputs.reshape(len(names), -1), payloads, small)


def _load(folder: Path, transform: ImageTransform, name: str, *, previews: bool) -> tuple[Floats, list[bytes]]:
    try:
        photo = open_photo(folder / name, str(folder / photo_id(name)), transform)
    except (DataError, OSError) as error:
        found = error.found if isinstance(error, DataError) else error.strerror or str(error)
        remedy = "The file changed while the folder was read; start again."
        raise DataError(str(folder / photo_id(name)), "the photo as it was before", found, remedy) from error
    return to_pixels(photo, transform), [preview(photo)] if previews else []


def _payload(name: str, size: list[int]) -> dict[str, Any]:
    label = name.rpartition("/")[0]
    return {"file": name, **({"label": label} if label else {}), "width": size[0], "height": size[1]}


def _check_skipped(photos: Photos, settings: DataConfig) -> None:
    count = len(photos.names) + len(photos.skipped)
    if not count:
        found = f"no photos, only {_first(photos.others)}" if photos.others else "no photos"
        raise DataError(str(photos.folder), f"a folder of images: {' '.join(sorted(PHOTO_ENDINGS))}", found)
    bad, most = len(photos.skipped), settings.max_unreadable
    share, least = (AUTO_SHARE, AUTO_FILES) if most == "auto" else (most, 0)
    if not photos.names or bad > max(least, share * count):
        expected = f"at most {share:.2%} unreadable photos" + (f", or {least}" if least else "")
        expected = expected if photos.names else "a readable photo"
        found = f"{bad:,} of {count:,} unreadable: {'; '.join(_by_reason(photos, IN_ERROR)[:IN_ERROR])}"
        install = next((file.remedy for file in photos.skipped if "pip install" in file.remedy), "")
        more = f"--max-unreadable {math.ceil(100 * bad / count) / 100:g} skips them." if photos.names else ""
        remedy = f"{install or 'Repair or remove them.'} {more}"
        raise DataError(str(photos.folder), expected, found, remedy=remedy.strip())


def _by_reason(photos: Photos, most: int) -> list[str]:
    """Return a line for each reason, the most frequent first, with the names of at most `most` files."""
    names: dict[str, list[str]] = {}
    for file in photos.skipped:
        names.setdefault(file.reason, []).append(file.name)
    return [f"{_first(names[reason], most)} ({reason})" for reason in sorted(names, key=lambda key: -len(names[key]))]


def _first(names: list[str], most: int = NAMED) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _notes(photos: Photos) -> Iterator[str]:
    if photos.skipped:
        count = len(photos.names) + len(photos.skipped)
        yield f"skipped {len(photos.skipped):,} of {count:,} photos that cannot be read"
        yield from (f"skipped {line}" for line in _by_reason(photos, NAMED)[:NAMED])
    if photos.others:
        yield f"skipped files of other types ({len(photos.others):,}): {_first(photos.others)}"
    if photos.links:
        yield f"followed links to folders ({len(photos.links):,}): {_first(photos.links)}"
