"""Read .npy files, one header at a time.

NumPy parses a header with Python's own parser, which is not thread-safe in some releases of Python 3.11 and 3.12
(https://github.com/python/cpython/issues/106905, "AST constructor recursion depth mismatch"). So opening a version and
reading a request body at the same time could fail.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.training.errors import ArtifactError

__all__ = ["ONE_HEAD", "is_permutation", "load_array", "map_array"]

ONE_HEAD = threading.Lock()
"""The lock for reading a header, held for a few microseconds."""


def load_array(file: Path | BinaryIO, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Load an array: mapped with `mmap_mode`, else read. Raises OSError, ValueError or EOFError for a damaged file."""
    with ONE_HEAD:
        array: NDArray[Any] = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    return array


def map_array(path: Path) -> NDArray[Any]:
    """Map an array of an artifact. Raises ArtifactError, which names the file, if it is damaged."""
    try:
        return load_array(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(str(path), expected="a NumPy array", found=str(error).partition(". ")[0]) from error


def is_permutation(parts: Iterable[NDArray[np.integer[Any]]], count: int) -> bool:
    """Whether the parts, (m,) integers each, together contain each number from 0 to count - 1 once."""
    seen, total = np.zeros(count, np.bool_), 0
    for part in parts:
        if len(part) and not 0 <= part.min() <= part.max() < count:
            return False
        seen[part] = True
        total += len(part)
    return total == count and bool(seen.all())
