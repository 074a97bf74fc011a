"""From what the user typed to rows."""

from collections.abc import Callable
from pathlib import Path

from training.errors import DataError
from training.rows.base import Rows
from training.rows.builtin import BUILTIN
from training.rows.images import open_images
from training.rows.streams import open_idx, open_npy, open_npz
from training.rows.tables import open_csv, open_parquet

__all__ = ["open_rows"]

_BY_SUFFIX: dict[str, Callable[[Path], Rows]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".gz": open_idx,
    ".parquet": open_parquet,
    ".csv": open_csv,
}


def open_rows(name: str) -> Rows:
    """Open `digits`, `fashion-mnist`, either with `:test`, a file by its ending, or a folder of images.

    Raises:
        DataError: there is no such thing, or it cannot be read.
    """
    base, _, part = name.partition(":")
    if base in BUILTIN and part in {"", "train", "test"}:
        return BUILTIN[base](part or "train")
    path = Path(name)
    if name and path.is_dir():
        return open_images(path)
    if path.suffix not in _BY_SUFFIX:
        known = ", ".join([*BUILTIN, *(f"*{suffix}" for suffix in _BY_SUFFIX), "a folder of images"])
        raise DataError(name, expected=known, found="neither", remedy="`:test` names the test part of a built-in set.")
    if not path.is_file():
        raise DataError(name, expected="a file", found="none at that path")
    return _BY_SUFFIX[path.suffix](path)
