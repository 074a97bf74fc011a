"""Find the photos in a folder, and check that each photo can be read, before the first photo becomes a row."""

import os
import re
import stat
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np

from lookalike.training.array_types import Integers
from lookalike.training.errors import DataError
from lookalike.training.parallel import map_in_order
from lookalike.training.progress import progress_bar
from lookalike.training.rows.base import evenly
from lookalike.training.transforms.image import PHOTO_ENDINGS, ImageTransform
from lookalike.training.transforms.photos import open_photo, to_pixels

__all__ = ["MAX_NAME", "Photos", "Skipped", "check_folder", "photo_id", "threads"]

MAX_NAME = 256
"""The most characters of an id."""
COLOR_SAMPLE = 256
"""How many photos, evenly spread over the folder, are examined for color."""
_COLORED = 8
"""A photo has color if the channels of a pixel differ by more than this; a scan in grey may have a slight tint."""
_SMALL = ImageTransform(height=64, width=64, mode="rgb")
_SHOWN_FROM = 200
"""A progress bar is shown for this many photos and more."""
_ESCAPED = re.compile("[%\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Skipped:
    """A file that cannot be read: its id, the reason, and the remedy.

    The error itself is not kept, because its traceback keeps the pixels in memory.
    """

    name: str
    expected: str
    found: str
    remedy: str = ""

    @property
    def reason(self) -> str:
        return f"expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Photos:
    """The photos of a folder that can be read, ordered by path, and what else the folder contains.

    Attributes:
        names: the paths inside the folder, one for each photo.
        sizes: (n, 2), the width and height of each upright photo.
        colored: whether a photo of the sample has color; grey and black-and-white photos have none.
        skipped: photos that cannot be read.
        others: files of other types.
        links: links to folders that were followed.
    """

    folder: Path
    names: list[str]
    sizes: Integers
    colored: bool
    skipped: list[Skipped]
    others: list[str]
    links: list[str]


@dataclass(frozen=True)
class _Listing:
    names: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def check_folder(folder: Path) -> Photos:
    """Decode each photo under a folder once, in threads, and return the photos that can be read.

    The ending of its name decides whether a file is a photo. `._` files, in which macOS keeps attributes, are files of
    another type. A link to a folder is followed unless that folder was read before. A broken link is a photo that
    cannot be read, and so is a path that would make an id of more than `MAX_NAME` characters.
    """
    listing = _list_files(folder)
    names = sorted(listing.names, key=lambda name: name.split("/"))
    step = partial(_check, folder, frozenset(names[i] for i in evenly(len(names), COLOR_SAMPLE)))
    kept: list[str] = []
    sizes: list[tuple[int, int]] = []
    skipped, seen, colored = listing.skipped, set[str](), False
    with (
        progress_bar("checking", len(names), "photos", shown=len(names) >= _SHOWN_FROM) as advance,
        closing(map_in_order(step, iter(names), threads())) as checked,
    ):
        for name, found in zip(names, checked, strict=True):
            advance(1)
            if isinstance(found, Skipped):
                skipped.append(found)
            elif (identifier := photo_id(name)) in seen:
                skipped.append(Skipped(identifier, "a path that makes a unique id", "the id of another photo"))
            else:
                seen.add(identifier)
                kept.append(name)
                sizes.append(found[0])
                colored = colored or found[1]
    shape = np.array(sizes, np.int64).reshape(-1, 2)
    return Photos(folder, kept, shape, colored, skipped, sorted(listing.others), listing.links)


def photo_id(name: str) -> str:
    """Return the id of a photo: its path, in which characters that an id cannot have are escaped.

    Control characters and bytes that are not UTF-8 are escaped as in a URL. If a path has such characters, its percent
    signs are escaped too.
    """
    if not _ESCAPED.search(name.replace("%", "")):
        return name
    return _ESCAPED.sub(lambda found: quote(found[0], safe="", errors="surrogateescape"), name)


def threads() -> int:
    """Return how many photos to decode at the same time: one for each core of this process, at most 8."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _list_files(folder: Path) -> _Listing:
    """List the files under a folder: each real folder once, and links to folders after all other folders."""
    listing, seen, links = _Listing(), set[str](), [""]
    while links:
        link = links.pop(0)
        if link and os.path.realpath(folder / link) not in seen:
            listing.links.append(photo_id(link))
        waiting = [link]
        while waiting:
            inner = waiting.pop()
            if (real := os.path.realpath(folder / inner)) in seen:
                continue
            seen.add(real)
            try:
                entries = {path: _mode(path) for path in sorted((folder / inner).iterdir())}
            except OSError as error:
                found = error.strerror or str(error)
                listing.skipped.append(Skipped(photo_id(inner), "a folder that can be opened", found))
                continue
            for path, mode in entries.items():
                name = f"{inner}/{path.name}" if inner else path.name
                if stat.S_ISDIR(mode):
                    (links if path.is_symlink() else waiting).append(name)
                else:
                    _add_file(listing, name, path, mode)
    return listing


def _mode(path: Path) -> int:
    """Return the mode of a file, or of the target of a link; 0 if there is no file."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _add_file(listing: _Listing, name: str, path: Path, mode: int) -> None:
    identifier = photo_id(name)
    if path.name.startswith("._") or path.suffix.lower() not in PHOTO_ENDINGS or (mode and not stat.S_ISREG(mode)):
        listing.others.append(identifier)
    elif not mode:
        listing.skipped.append(Skipped(identifier, "a photo", "a link to a file that cannot be reached"))
    elif len(identifier) > MAX_NAME:
        found = f"{len(identifier):,} characters"
        listing.skipped.append(Skipped(identifier, f"a path of at most {MAX_NAME} characters", found))
    else:
        listing.names.append(name)


def _check(folder: Path, sample: frozenset[str], name: str) -> tuple[tuple[int, int], bool] | Skipped:
    """Return the size of a photo, and whether a photo of the sample has color; or why the photo cannot be read."""
    try:
        photo = open_photo(folder / name, photo_id(name), _SMALL)
    except DataError as error:
        return Skipped(photo_id(name), error.expected, error.found, error.remedy)
    colored = name in sample and photo.mode not in {"L", "F"}
    if colored:
        colored = bool(np.ptp(to_pixels(photo, _SMALL), axis=2).max() > _COLORED)
    return photo.info["size"], colored
