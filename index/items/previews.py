"""Small pictures of a version's items, in the order of the index: written in batches, mapped, found by position.

previews.bin   the WebP files of all items, one after the other
previews.npy   int64 (n, 2): the first byte of each item's preview, and the byte after its last; both are equal if the
               item has no preview

A version in which no item has a preview has neither file.
"""

import mmap
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.arrays import load_array
from lookalike.training.array_types import Booleans
from lookalike.training.errors import ArtifactError
from lookalike.training.rows import Rows

__all__ = ["CONTENT", "PLACES", "PreviewWriter", "Previews", "expected_bytes", "read_previews"]

CONTENT = "previews.bin"
PLACES = "previews.npy"
_SEEN = "previews.seen"
BLOCK = 1 << 16
"""Previews whose places are written at a time."""


_SAMPLE = 64
"""Rows from which the size of all previews is estimated."""


def expected_bytes(rows: Rows) -> int:
    """Estimate the bytes of the previews of all rows from the previews of the first rows; 0 without previews."""
    for chunk in rows.with_previews().read(_SAMPLE):
        return rows.count * sum(map(len, chunk.previews)) // max(1, len(chunk.ids))
    return 0


class PreviewWriter:
    """Writes previews batch by batch to a folder; only the current batch is in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def write(self, count: int, previews: list[bytes]) -> None:
        """Append the previews of the next `count` items; an empty preview, or an empty list, means no preview."""
        sizes = [len(preview) for preview in previews] if previews else [0] * count
        self._append(CONTENT, b"".join(previews))
        self._append(_SEEN, np.array(sizes, np.int64).tobytes())
        self._count += count

    def close(self, last: Booleans | None = None) -> None:
        """Write where each preview is; remove the files if no item has a preview.

        `last`: (n,) which items move behind all other items, in the same order; None moves no item.
        """
        if self._count and (self._folder / CONTENT).stat().st_size:
            self._write_places(np.zeros(self._count, np.bool_) if last is None else last)
        else:
            (self._folder / CONTENT).unlink(missing_ok=True)
        (self._folder / _SEEN).unlink(missing_ok=True)

    def _append(self, name: str, content: bytes) -> None:
        with (self._folder / name).open("ab") as file:
            file.write(content)

    def _write_places(self, last: Booleans) -> None:
        sizes = np.memmap(self._folder / _SEEN, np.int64, "r", shape=(self._count,))
        header = {"shape": (self._count, 2), "fortran_order": False, "descr": "<i8"}
        with (self._folder / PLACES).open("wb") as file:
            npy.write_array_header_1_0(file, header)
            for late in (False, True):
                start = 0
                for first in range(0, self._count, BLOCK):
                    some = slice(first, first + BLOCK)
                    ends = start + np.cumsum(sizes[some])  # (block,)
                    places = np.stack([ends - sizes[some], ends], axis=1)  # (block, 2)
                    file.write(places[last[some] == late].astype("<i8").tobytes())
                    start = int(ends[-1])


class Previews:
    """The previews of a version, mapped from disk."""

    def __init__(self, content: mmap.mmap, places: NDArray[np.int64]) -> None:
        self._content = content
        self._places = places

    def at(self, position: int) -> bytes:
        """Return the preview of the item at a position, a WebP file; empty if the item has no preview."""
        start, stop = self._places[position].tolist()
        return self._content[start:stop]

    def check(self, folder: Path) -> None:
        """Check every place: `read_previews` does not. Raises ArtifactError if a place is outside of the file."""
        for first in range(0, len(self._places), BLOCK):
            starts, stops = self._places[first : first + BLOCK].T
            if not ((starts >= 0) & (starts <= stops) & (stops <= len(self._content))).all():
                expected, found = f"places in the {len(self._content):,} bytes of {CONTENT}", "a place beyond the end"
                raise ArtifactError(str(folder / PLACES), expected=expected, found=found)


def read_previews(folder: Path, count: int) -> Previews:
    """Map the previews of `count` items in a verified folder.

    Raises ArtifactError if the files were not written by a PreviewWriter, or are of other items.
    """
    try:
        with (folder / CONTENT).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        places = load_array(folder / PLACES, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(str(folder / PLACES), expected="previews of items", found=str(error)) from error
    if places.dtype != np.int64 or places.shape != (count, 2):
        found = f"{places.dtype} {places.shape}"
        raise ArtifactError(str(folder / PLACES), expected=f"({count}, 2) int64 places", found=found)
    return Previews(content, places)
