"""The two built-in data sets: `digits` and `fashion-mnist`, each with a `:test` part."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.streams import open_idx

__all__ = ["BUILTIN", "fashion_folders", "open_digits", "open_fashion"]


def open_digits(part: str) -> Rows:
    """Open scikit-learn's 1,797 handwritten digits, 8 x 8 pixels of 0 to 16: 1,437 to train and 360 to test.

    The split is fixed and stratified. An item's id is its number in `sklearn.datasets.load_digits`.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    numbers = np.sort(train if part == "train" else test)
    inputs = pixels[numbers].astype(np.float32)  # (n, 64)

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(numbers), size):
            part = numbers[first : first + size]
            yield Chunk([str(i) for i in part], inputs[first : first + size], [{"label": int(labels[i])} for i in part])

    return Rows("digits" if part == "train" else "digits:test", (8, 8), len(numbers), True, read)


def open_fashion(part: str) -> Rows:
    """Open Zalando's 28 x 28 pictures of clothes, bytes of 0 to 255: 60,000 to train and 10,000 to test."""
    stem = "train" if part == "train" else "t10k"
    for folder in fashion_folders():
        images = folder / f"{stem}-images-idx3-ubyte.gz"
        if images.exists():
            name = "fashion-mnist" if part == "train" else "fashion-mnist:test"
            return open_idx(images, folder / f"{stem}-labels-idx1-ubyte.gz", name)
    expected = "the files of the data set in " + " or ".join(map(str, fashion_folders()))
    remedy = "Run `make data`, or install Debian's package dataset-fashion-mnist."
    raise DataError("fashion-mnist", expected=expected, found="no such files", remedy=remedy)


def fashion_folders() -> list[Path]:
    """Return the folders of Fashion-MNIST: the folder of Debian's package, and the folder of `make data`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path("/usr/share/datasets/fashion-mnist"), cache / "lookalike" / "fashion-mnist"]


BUILTIN = {"digits": open_digits, "fashion-mnist": open_fashion}
