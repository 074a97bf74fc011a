"""Reads .npy files, the head of one at a time.

NumPy reads a head by Python's own parser, in which threads disturb each other in some releases of Python 3.11 and 3.12
(https://github.com/python/cpython/issues/106905, "AST constructor recursion depth mismatch"): a version that is opened,
say, and a body that comes meanwhile.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ONE_HEAD", "is_permutation", "load_array"]

ONE_HEAD = threading.Lock()
"""Held while a head is read: some microseconds."""


def load_array(file: Path | BinaryIO, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """An array from a file that was verified: mapped, or read whole where it is small.

    Raises:
        OSError, ValueError, EOFError: it is no .npy file, or one that is cut off.
    """
    with ONE_HEAD:
        array: NDArray[Any] = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    return array


def is_permutation(parts: Iterable[NDArray[np.integer[Any]]], count: int) -> bool:
    """Do the parts, (m,) integers each, together hold each number from 0 to count - 1 once?"""
    seen, held = np.zeros(count, np.bool_), 0
    for part in parts:
        if len(part) and not 0 <= part.min() <= part.max() < count:
            return False
        seen[part] = True
        held += len(part)
    return held == count and bool(seen.all())
