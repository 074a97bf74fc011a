"""The inputs of a version's items, mapped from disk, so that an item can be explained.

inputs.npy   uint8 or float32 (n, width), in the order of the index: uint8 if every value is a whole number from 0 to
             255, as in photos; else float32, minus the encoder's origin, NaN for a missing value

A search does not read the inputs. `lookalike build --no-inputs` leaves the file out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.arrays import map_array
from lookalike.training.array_types import Booleans, Floats, Positions
from lookalike.training.errors import ArtifactError
from lookalike.training.rows import Rows

__all__ = ["INPUTS", "InputWriter", "StoredInputs", "read_inputs", "size_line"]

INPUTS = "inputs.npy"
COPIED = 1 << 24
"""About how many bytes are copied at a time."""
PROBED = 64
_SEEN = "inputs.seen"
_KINDS: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype("<f4"))

Stored = NDArray[np.uint8] | NDArray[np.float32]


class StoredInputs:
    """The inputs of a version, (n, width), read on demand."""

    def __init__(self, values: Stored) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def at(self, positions: Positions) -> Floats:
        """Return a copy of the inputs at (m,) positions: (m, width) float32, minus the encoder's origin."""
        rows: Floats = np.asarray(self.values[positions]).astype(np.float32)
        return rows

    def check(self, folder: Path, *, gaps: bool) -> None:
        """Raise ArtifactError if a value in the folder's file is infinite, or NaN without `gaps`."""
        if self.values.dtype == np.uint8:
            return
        path = folder / INPUTS
        for part in _parts(path):
            if not (np.isfinite(part) | (np.isnan(part) & gaps)).all():
                raise ArtifactError(str(path), expected="finite inputs", found="NaN or infinity")


class InputWriter:
    """Writes `count` inputs of `width` values block by block to a folder; only the current block is in memory."""

    def __init__(self, folder: Path, count: int, width: int) -> None:
        self._folder = folder
        self._shape = (count, width)
        self._kind = _KINDS[0]
        self._file = _begin(folder / _SEEN, self._shape, self._kind)

    def write(self, inputs: Floats) -> None:
        """Append a block, (m, width) float32."""
        if self._kind == np.uint8 and not is_bytes(inputs):
            self._widen()
        self._file.write(np.ascontiguousarray(inputs, self._kind).data)

    def close(self) -> None:
        """Close the files; unless `finish` was called, the folder has no inputs."""
        self._file.close()

    def finish(self, last: Booleans | None = None) -> None:
        """Complete the file. `last`: (count,) which inputs move behind all other inputs; None moves no input."""
        self._file.close()
        seen, path = self._folder / _SEEN, self._folder / INPUTS
        if last is None or not last.any():
            seen.replace(path)
            return
        with _begin(path, self._shape, self._kind) as file:
            start, late = 0, list[Stored]()
            for part in _parts(seen):
                moved = last[start : start + len(part)]
                file.write(np.ascontiguousarray(part[~moved]).data)
                late.append(part[moved])
                start += len(part)
            for part in late:
                file.write(np.ascontiguousarray(part).data)
        seen.unlink()

    def _widen(self) -> None:
        """Convert the inputs so far to float32."""
        before, self._kind = self._file.tell(), _KINDS[1]
        self._file.close()
        seen, old = self._folder / _SEEN, self._folder / f"{_SEEN}.bytes"
        seen.replace(old)
        self._file = _begin(seen, self._shape, self._kind)
        with old.open("rb") as source:
            source.seek(self._file.tell())  # the headers of both files have the same length
            while block := source.read(min(COPIED, before - source.tell())):
                self._file.write(np.frombuffer(block, np.uint8).astype(self._kind).data)
        old.unlink()


def read_inputs(folder: Path, count: int, width: int) -> StoredInputs:
    """Map the inputs of a verified folder. Raises ArtifactError if they are not (count, width) of a known type."""
    values: Stored = map_array(folder / INPUTS)
    if values.dtype not in _KINDS or values.shape != (count, width):
        expected, found = f"uint8 or float32 ({count}, {width})", f"{values.dtype} {values.shape}"
        raise ArtifactError(str(folder / INPUTS), expected=expected, found=found)
    return StoredInputs(values)


def size_line(rows: Rows) -> str:
    """Return a line about the size of these rows' inputs in a version; reads the first rows."""
    first = next(rows.chunks(PROBED)).inputs
    size = rows.count * rows.width * (1 if is_bytes(first) else 4)
    return f"the version stores the items' inputs in {size / 1e6:,.1f} MB; --no-inputs leaves them out"


def is_bytes(inputs: Floats) -> bool:
    """Whether every value is a whole number from 0 to 255."""
    with np.errstate(invalid="ignore"):
        return bool((inputs.astype(np.uint8) == inputs).all())


def _begin(path: Path, shape: tuple[int, int], kind: np.dtype[Any]) -> BinaryIO:
    file = path.open("wb")
    npy.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(kind)})
    return file


def _parts(path: Path) -> Iterator[Stored]:
    """Yield views of consecutive inputs, each of about COPIED bytes; each is mapped separately, to free its memory."""
    values = map_array(path)
    step = max(1, COPIED // max(1, values.shape[1] * values.itemsize))
    for start in range(0, len(values), step):
        yield map_array(path)[start : start + step]
