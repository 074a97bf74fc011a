"""Fetch Fashion-MNIST from OpenML, for machines without Debian's package: `python -m lookalike.training.rows.openml`.

It writes the same four idx files as the package to the user's cache, all of them or none.
"""

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Doubles
from lookalike.training.errors import DataError
from lookalike.training.rows.builtin import fashion_folders
from lookalike.training.sealed import replace_folder, staging

__all__ = ["Fetch", "install_fashion", "write_idx"]

Fetch = Callable[[], tuple[Doubles, NDArray[np.str_]]]
"""Returns pixels, (70000, 784) of 0 to 255, and labels, (70000,) of "0" to "9"; the training part first."""

_PARTS = {"train": slice(0, 60_000), "t10k": slice(60_000, 70_000)}


def main() -> int:
    """Install Fashion-MNIST into the user's cache, and print the folder."""
    folder = fashion_folders()[1]
    try:
        install_fashion(folder, _fetch)
    except (DataError, OSError, ValueError) as error:
        print(f"openml: {error}", file=sys.stderr)
        return 1
    print(f"openml: Fashion-MNIST is in {folder}", file=sys.stderr)
    return 0


def install_fashion(folder: Path, fetch: Fetch) -> None:
    """Write the result of `fetch` as four idx files to `folder`, all or none. Raises DataError for other data."""
    pixels, labels = fetch()
    _check(pixels, labels)
    with staging(folder.parent) as staged:
        for part, numbers in _PARTS.items():
            images = pixels[numbers].reshape(-1, 28, 28)  # (n, 784) -> (n, 28, 28)
            write_idx(staged / f"{part}-images-idx3-ubyte.gz", images.astype(np.uint8))
            write_idx(staged / f"{part}-labels-idx1-ubyte.gz", labels[numbers].astype(np.uint8))
        replace_folder(staged, folder)


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Write an array of any shape as a gzipped idx file, which `training.rows.streams.open_idx` reads."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)  # 8: unsigned bytes
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header)
        file.write(values.tobytes())


def _check(pixels: Doubles, labels: NDArray[np.str_]) -> None:
    """Check the shapes, that pixels are bytes, and that all labels are equally frequent in each part."""
    found = f"{pixels.shape} and {labels.shape}"
    if pixels.shape == (70_000, 784) and labels.shape == (70_000,):
        counts = {part: np.unique(labels[numbers], return_counts=True)[1] for part, numbers in _PARTS.items()}
        even = all(len(c) == 10 and (c == c[0]).all() for c in counts.values())
        if even and pixels.min() >= 0 and pixels.max() <= 255:
            return
        found += f", labels { ({part: c.tolist() for part, c in counts.items()}) }"
    expected = "70,000 rows of 784 bytes, every label equally often among the first 60,000 and the last 10,000"
    raise DataError("Fashion-MNIST", expected=expected, found=found, remedy="Fetch the data again.")


def _fetch() -> tuple[Doubles, NDArray[np.str_]]:
    """Download with the liac-arff parser: the faster one needs pandas, which is not a dependency."""
    from sklearn.datasets import fetch_openml

    fetched = fetch_openml(data_id=40996, as_frame=False, parser="liac-arff", return_X_y=True, cache=False)
    pixels: Doubles = fetched[0]
    labels: NDArray[np.str_] = fetched[1].astype(np.str_)
    return pixels, labels


if __name__ == "__main__":
    sys.exit(main())
